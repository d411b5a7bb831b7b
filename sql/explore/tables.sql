-- What questions are asked of: made once from a snapshot's Parquet files (the views snapshot_*), then only read. Ids are long texts
-- and slow to join by, so chats and steps are numbered, and each rating carries what one groups it by. Times are UTC.

CREATE TYPE rater_name AS ENUM (
    SELECT rater FROM (SELECT rater FROM snapshot_chat_feedback UNION SELECT rater FROM snapshot_chat_marks
                       UNION SELECT rater FROM snapshot_label_events UNION SELECT rater FROM snapshot_preferences
                       UNION SELECT rater FROM snapshot_aspect_ratings UNION SELECT rater FROM snapshot_gold_results
                       UNION SELECT rater FROM snapshot_hints_shown UNION SELECT rater FROM snapshot_people) WHERE rater IS NOT NULL ORDER BY rater);
CREATE TYPE source_name AS ENUM (SELECT DISTINCT source FROM snapshot_chats ORDER BY source);
CREATE TYPE verdict_name AS ENUM ('chat', 'other', 'tie', 'both_bad');
CREATE TYPE aspect_name AS ENUM (
    SELECT aspect FROM (SELECT '' AS aspect UNION SELECT aspect FROM snapshot_aspect_ratings UNION SELECT aspect FROM snapshot_preferences) ORDER BY aspect);
CREATE TYPE model_name AS ENUM (SELECT DISTINCT model FROM snapshot_chats WHERE model IS NOT NULL ORDER BY model);

CREATE TABLE chats AS
SELECT c.chat_no, c.id, c.query, c.response, c.source::source_name AS source, c.model::model_name AS model,
       c.external_id, c.owner, length(c.response)::INT AS chars,
       hash(lower(trim(c.query)), lower(trim(c.response))) AS answer_hash, coalesce(s.steps, 0)::SMALLINT AS steps,
       c.created_at::TIMESTAMP AS created_at
FROM (SELECT *, (row_number() OVER () - 1)::INT AS chat_no FROM snapshot_chats) AS c -- numbered before a join stirs them
LEFT JOIN (SELECT chat_id, count(*) AS steps FROM snapshot_reasoning_steps GROUP BY chat_id) AS s ON s.chat_id = c.id;
COMMENT ON TABLE chats IS 'questions and answers';
COMMENT ON COLUMN chats.chat_no IS 'number of the chat in this snapshot';
COMMENT ON COLUMN chats.id IS 'id of the chat in the store';
COMMENT ON COLUMN chats.query IS 'what the person asked';
COMMENT ON COLUMN chats.response IS 'the answer';
COMMENT ON COLUMN chats.source IS 'where the chat comes from';
COMMENT ON COLUMN chats.model IS 'what wrote the answer';
COMMENT ON COLUMN chats.external_id IS 'its id in the file it came with';
COMMENT ON COLUMN chats.owner IS 'pseudonym of whose chat it is';
COMMENT ON COLUMN chats.chars IS 'characters of the answer';
COMMENT ON COLUMN chats.answer_hash IS 'the same for chats of the same question and answer, letter case and spaces at the ends aside';
COMMENT ON COLUMN chats.steps IS 'reasoning steps';
COMMENT ON COLUMN chats.created_at IS 'when it came, UTC';

CREATE TABLE reasoning_steps AS
SELECT s.step_no, c.chat_no, s.id, s.chat_id, s.step_order::SMALLINT AS step_order, s.step_content,
       length(s.step_content)::INT AS chars, hash(s.step_content) AS text_hash
FROM (SELECT *, (row_number() OVER () - 1)::INT AS step_no FROM snapshot_reasoning_steps) AS s JOIN chats AS c ON c.id = s.chat_id;
COMMENT ON TABLE reasoning_steps IS 'the visible steps of each answer';
COMMENT ON COLUMN reasoning_steps.step_no IS 'number of the step in this snapshot';
COMMENT ON COLUMN reasoning_steps.chat_no IS 'its chat: chats.chat_no';
COMMENT ON COLUMN reasoning_steps.id IS 'id of the step in the store';
COMMENT ON COLUMN reasoning_steps.chat_id IS 'its chat: chats.id';
COMMENT ON COLUMN reasoning_steps.step_order IS 'position in the answer, 1 is the first';
COMMENT ON COLUMN reasoning_steps.step_content IS 'its text';
COMMENT ON COLUMN reasoning_steps.chars IS 'characters of its text';
COMMENT ON COLUMN reasoning_steps.text_hash IS 'the same for steps of the same text';

CREATE TEMP TABLE given AS
SELECT c.chat_no, s.step_no, s.step_order, f.rater::rater_name AS rater, f.feedback_score AS score, c.source, c.model,
       coalesce(s.chars, c.chars) AS chars, f.scale, f.comment, f.is_demo, f.created_at::TIMESTAMP AS created_at,
       f.updated_at::TIMESTAMP AS updated_at
FROM snapshot_chat_feedback AS f
JOIN chats AS c ON c.id = f.chat_id
LEFT JOIN reasoning_steps AS s ON s.id = f.step_id;

CREATE TEMP TABLE things AS
SELECT chat_no, step_no, count(*) AS n, sum(score)::INT AS total FROM given GROUP BY chat_no, step_no;

CREATE TABLE ratings AS
SELECT g.*, g.created_at::DATE AS day, (t.n - 1)::INT AS others,
       if(t.n > 1, (t.total - g.score)::DOUBLE / (t.n - 1), NULL) AS others_mean
FROM given AS g
JOIN things AS t ON t.chat_no = g.chat_no AND coalesce(t.step_no, -1) = coalesce(g.step_no, -1);
DROP TABLE given;
DROP TABLE things;
COMMENT ON TABLE ratings IS 'one row for each score that somebody gave to a step or a whole answer';
COMMENT ON COLUMN ratings.chat_no IS 'chats.chat_no';
COMMENT ON COLUMN ratings.step_no IS 'reasoning_steps.step_no; null: the whole answer';
COMMENT ON COLUMN ratings.step_order IS 'position of the step; null: the whole answer';
COMMENT ON COLUMN ratings.rater IS 'pseudonym of who judged';
COMMENT ON COLUMN ratings.score IS 'stars, 1 to 5';
COMMENT ON COLUMN ratings.source IS 'where the chat comes from';
COMMENT ON COLUMN ratings.model IS 'what wrote the answer';
COMMENT ON COLUMN ratings.chars IS 'characters of what was judged';
COMMENT ON COLUMN ratings.scale IS 'stars or thumbs';
COMMENT ON COLUMN ratings.comment IS 'the rater''s words';
COMMENT ON COLUMN ratings.is_demo IS 'by a fictional rater of the demo set';
COMMENT ON COLUMN ratings.created_at IS 'when it was first given, UTC';
COMMENT ON COLUMN ratings.updated_at IS 'when it was last changed, UTC';
COMMENT ON COLUMN ratings.day IS 'day it was first given, UTC';
COMMENT ON COLUMN ratings.others IS 'how many others judged the same thing';
COMMENT ON COLUMN ratings.others_mean IS 'their mean score, stars';

CREATE TABLE judged_chats AS
WITH rated AS (
    SELECT chat_no, rater, count(*)::SMALLINT AS steps_rated, min(score) AS lowest, max(score) AS highest,
           min(step_order) FILTER (WHERE score <= 2) AS first_bad, max(step_order) AS last_rated, min(created_at) AS began_at
    FROM ratings WHERE step_no IS NOT NULL GROUP BY chat_no, rater
),
marked AS (
    SELECT c.chat_no, m.rater::rater_name AS rater, s.step_order AS marked
    FROM snapshot_chat_marks AS m
    JOIN chats AS c ON c.id = m.chat_id
    JOIN reasoning_steps AS s ON s.id = m.first_error
)
SELECT coalesce(r.chat_no, m.chat_no) AS chat_no, coalesce(r.rater, m.rater) AS rater, coalesce(r.steps_rated, 0)::SMALLINT AS steps_rated,
       r.lowest, r.highest, coalesce(m.marked, r.first_bad) AS first_error, m.marked IS NOT NULL AS marked,
       coalesce(m.marked, r.last_rated) AS judged_to, r.began_at, c.source, c.model, c.steps
FROM rated AS r
FULL JOIN marked AS m ON m.chat_no = r.chat_no AND m.rater = r.rater
JOIN chats AS c ON c.chat_no = coalesce(r.chat_no, m.chat_no);
COMMENT ON TABLE judged_chats IS 'one row for each chat whose steps a rater judged';
COMMENT ON COLUMN judged_chats.chat_no IS 'chats.chat_no';
COMMENT ON COLUMN judged_chats.rater IS 'pseudonym';
COMMENT ON COLUMN judged_chats.steps_rated IS 'steps that they scored';
COMMENT ON COLUMN judged_chats.lowest IS 'their lowest score of a step, stars';
COMMENT ON COLUMN judged_chats.highest IS 'their highest score of a step, stars';
COMMENT ON COLUMN judged_chats.first_error IS 'position of the step they marked as the first wrong one, else of the first they gave 1 or 2 stars';
COMMENT ON COLUMN judged_chats.marked IS 'whether they marked it themselves';
COMMENT ON COLUMN judged_chats.judged_to IS 'position of the last step they judged';
COMMENT ON COLUMN judged_chats.began_at IS 'when they gave their first score of it, UTC';
COMMENT ON COLUMN judged_chats.source IS 'where the chat comes from';
COMMENT ON COLUMN judged_chats.model IS 'what wrote the answer';
COMMENT ON COLUMN judged_chats.steps IS 'steps of the answer';

-- How many in a row of one score, over everything that a rater scored: the longest run of each.
CREATE TABLE score_runs AS
WITH ordered AS (
    SELECT rater, score, created_at, chat_no, step_order,
           score IS DISTINCT FROM lag(score) OVER (PARTITION BY rater ORDER BY created_at, chat_no, step_order) AS begins
    FROM ratings WHERE step_no IS NOT NULL
),
numbered AS (
    SELECT rater, score, sum(begins::INT) OVER (PARTITION BY rater ORDER BY created_at, chat_no, step_order ROWS UNBOUNDED PRECEDING) AS run
    FROM ordered
)
SELECT rater, score, length, count(*)::INT AS runs
FROM (SELECT rater, any_value(score) AS score, count(*)::INT AS length FROM numbered GROUP BY rater, run)
GROUP BY ALL;
COMMENT ON TABLE score_runs IS 'how often a rater gave one score to so many steps in a row';
COMMENT ON COLUMN score_runs.rater IS 'pseudonym';
COMMENT ON COLUMN score_runs.score IS 'stars, 1 to 5';
COMMENT ON COLUMN score_runs.length IS 'steps in a row';
COMMENT ON COLUMN score_runs.runs IS 'how often';

CREATE TABLE looks AS
WITH timed AS (
    SELECT e.rater::rater_name AS rater, s.step_no, e.value / 1000 AS seconds, s.chars
    FROM snapshot_label_events AS e
    JOIN reasoning_steps AS s ON s.id = e.step_id AND s.chat_id = e.chat_id
    WHERE e.kind = 'dwell' AND e.value BETWEEN 1 AND 300000 -- longer ones are pauses
      AND e.rater NOT IN (SELECT rater FROM snapshot_people WHERE origin = 'application') -- who read, and did not rate for us
)
SELECT *, rank() OVER by_seconds + (count(*) OVER (PARTITION BY rater, seconds) - 1) / 2.0 AS seconds_rank, -- ties share their mean rank
       rank() OVER by_chars + (count(*) OVER (PARTITION BY rater, chars) - 1) / 2.0 AS chars_rank
FROM timed
WINDOW by_seconds AS (PARTITION BY rater ORDER BY seconds), by_chars AS (PARTITION BY rater ORDER BY chars);
COMMENT ON TABLE looks IS 'how long raters looked at a step; pauses of over 5 minutes are left out';
COMMENT ON COLUMN looks.rater IS 'pseudonym';
COMMENT ON COLUMN looks.step_no IS 'reasoning_steps.step_no';
COMMENT ON COLUMN looks.seconds IS 'seconds';
COMMENT ON COLUMN looks.chars IS 'characters of the step';
COMMENT ON COLUMN looks.seconds_rank IS 'rank among the looks of this rater';
COMMENT ON COLUMN looks.chars_rank IS 'rank of the length among the looks of this rater';

CREATE TABLE chat_marks AS SELECT * REPLACE (updated_at::TIMESTAMP AS updated_at) FROM snapshot_chat_marks;
CREATE TABLE label_events AS SELECT * REPLACE ("at"::TIMESTAMP AS "at") FROM snapshot_label_events;
CREATE TABLE preferences AS
SELECT p.* REPLACE (p.rater::rater_name AS rater, p.verdict::verdict_name AS verdict, p.aspect::aspect_name AS aspect,
                    p.created_at::TIMESTAMP AS created_at, p.updated_at::TIMESTAMP AS updated_at),
       if(p.verdict IN ('chat', 'other'), if(p.verdict = 'chat', p.chat_id, p.other_id) = p.shown_left, NULL) AS left_won
FROM snapshot_preferences AS p;
COMMENT ON COLUMN preferences.left_won IS 'whether the answer on the left was the better one; null: none was, or nobody knows where they stood';
CREATE TABLE aspect_ratings AS
SELECT a.* REPLACE (a.rater::rater_name AS rater, a.aspect::aspect_name AS aspect,
                    a.created_at::TIMESTAMP AS created_at, a.updated_at::TIMESTAMP AS updated_at), c.chat_no,
       (sum(score) OVER of_chat)::INT AS chat_total, (count(*) OVER of_chat)::INT AS chat_ratings
FROM snapshot_aspect_ratings AS a
JOIN chats AS c ON c.id = a.chat_id
WINDOW of_chat AS (PARTITION BY a.aspect, a.chat_id);
COMMENT ON COLUMN aspect_ratings.chat_no IS 'chats.chat_no';
COMMENT ON COLUMN aspect_ratings.chat_total IS 'sum of the scores that this aspect of the chat has';
COMMENT ON COLUMN aspect_ratings.chat_ratings IS 'how many those are';
CREATE TABLE assignments AS
SELECT * REPLACE (claimed_at::TIMESTAMP AS claimed_at, finished_at::TIMESTAMP AS finished_at) FROM snapshot_assignments;
CREATE TABLE queues AS FROM snapshot_queues;
CREATE TABLE gold_results AS SELECT * REPLACE (rater::rater_name AS rater, "at"::TIMESTAMP AS "at") FROM snapshot_gold_results;
CREATE TABLE decisions AS SELECT * REPLACE (decided_at::TIMESTAMP AS decided_at) FROM snapshot_decisions;
CREATE TABLE hints_shown AS SELECT * REPLACE ("at"::TIMESTAMP AS "at") FROM snapshot_hints_shown;
CREATE TABLE people AS FROM snapshot_people;
COMMENT ON TABLE chat_marks IS 'first errors and flags, by chat and rater';
COMMENT ON TABLE label_events IS 'what people did: how long they looked, copied, edited, asked on';
COMMENT ON TABLE preferences IS 'which of two answers is better';
COMMENT ON TABLE aspect_ratings IS 'scores of one aspect';
COMMENT ON TABLE assignments IS 'what people were handed and finished, by queue';
COMMENT ON TABLE queues IS 'queues of chats to label';
COMMENT ON TABLE gold_results IS 'how raters did on items with a known answer';
COMMENT ON TABLE decisions IS 'what was decided where raters disputed';
COMMENT ON TABLE hints_shown IS 'what somebody had said when they saw a checkpoint''s opinion';
COMMENT ON TABLE people IS 'raters and owners of chats, their consent';

-- The 95% interval of a mean of ratings, taking whole chats as what was drawn by chance: ratings of one chat resemble each other.
-- Of each chat come the sum s and the number n of its ratings; the interval is the mean plus and minus this (ratio estimator).
CREATE MACRO margin(s, n) AS
    1.96 * sqrt(greatest(0, sum(s * s) - 2 * (sum(s) / sum(n)) * sum(s * n) + power(sum(s) / sum(n), 2) * sum(n * n))
                * count(*) / nullif(count(*) - 1, 0)) / sum(n);
CREATE MACRO interval_low(s, n) AS if(count(*) > 1, greatest(1, sum(s) / sum(n) - margin(s, n)), NULL);
CREATE MACRO interval_high(s, n) AS if(count(*) > 1, least(5, sum(s) / sum(n) + margin(s, n)), NULL);
