-- title: Who gives one score to everything
-- topic: Raters
-- question: In how many chats did a rater give every step the same score, and how long is their longest run of one score?
-- params: fewest_steps=3
-- columns: rater pseudonym; chats count with enough steps rated; one_score count of those where all steps got the same; share of those chats; longest_run steps in a row, across chats in the order they were rated; commonest_score stars, 1-5
-- Chats with fewer than $fewest_steps rated steps say nothing. People do agree with good answers: compare raters with one another.
WITH enough AS (
    SELECT rater, count(*) AS chats, count(*) FILTER (WHERE lowest = highest) AS one_score
    FROM judged_chats WHERE steps_rated >= $fewest_steps GROUP BY rater
),
runs AS (
    SELECT rater, max(length) AS longest_run FROM score_runs GROUP BY rater
),
common AS (
    SELECT rater, arg_max(score, (n, -score)) AS commonest_score
    FROM (SELECT rater, score, sum(length * runs) AS n FROM score_runs GROUP BY rater, score) GROUP BY rater
)
SELECT
    e.rater::VARCHAR AS rater,
    e.chats,
    e.one_score,
    e.one_score / e.chats AS share,
    r.longest_run,
    m.commonest_score
FROM enough AS e
JOIN runs AS r ON r.rater = e.rater
JOIN common AS m ON m.rater = e.rater
ORDER BY share DESC, r.longest_run DESC, 1;
