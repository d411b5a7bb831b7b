-- title: Who gives one score to everything
-- question: In how many chats did a rater give every step the same score, and how long is their longest run of one score?
-- params: fewest_steps=3
-- columns: rater pseudonym; chats count with enough steps rated; one_score count of those where all steps got the same; share of those chats; longest_run steps in a row, across chats in the order they were rated; commonest_score stars, 1-5
-- Chats with fewer than $fewest_steps rated steps say nothing. People do agree with good answers: compare raters with one another.
WITH rated AS (
    SELECT f.rater, f.chat_id, s.step_order, f.feedback_score, f.created_at
    FROM chat_feedback AS f
    JOIN reasoning_steps AS s ON s.id = f.step_id AND s.chat_id = f.chat_id
),
chats AS (
    SELECT rater, chat_id, count(DISTINCT feedback_score) = 1 AS one_score
    FROM rated GROUP BY rater, chat_id HAVING count(*) >= $fewest_steps
),
marked AS (
    SELECT rater, feedback_score,
           row_number() OVER everything - row_number() OVER (PARTITION BY rater, feedback_score ORDER BY created_at, chat_id, step_order)
               AS run
    FROM rated
    WINDOW everything AS (PARTITION BY rater ORDER BY created_at, chat_id, step_order)
),
runs AS (
    SELECT rater, max(n) AS longest_run FROM (SELECT rater, feedback_score, run, count(*) AS n FROM marked GROUP BY ALL) GROUP BY rater
),
common AS (
    SELECT rater, mode(feedback_score) AS commonest_score FROM rated GROUP BY rater
)
SELECT
    c.rater,
    count(*) AS chats,
    count(*) FILTER (WHERE c.one_score) AS one_score,
    avg(c.one_score::INT) AS share,
    any_value(r.longest_run) AS longest_run,
    any_value(m.commonest_score) AS commonest_score
FROM chats AS c
JOIN runs AS r USING (rater)
JOIN common AS m USING (rater)
GROUP BY c.rater
ORDER BY share DESC, longest_run DESC, c.rater;
