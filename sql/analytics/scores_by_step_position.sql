-- title: Where in the reasoning answers go wrong
-- topic: Steps
-- question: What is the mean score of the first, second, third ... step?
-- params: none
-- columns: step_order position, 1 is the first; mean_score stars, 1-5; low stars, of the 95% interval; high stars, of the 95% interval; bad share of scores 1-2; ratings count
-- A chat has one step at a position, so its ratings are what one chat says of it.
WITH per_step AS (
    SELECT step_order, step_no, sum(score)::DOUBLE AS s, count(*)::DOUBLE AS n, count(*) FILTER (WHERE score <= 2) AS bad
    FROM ratings WHERE step_no IS NOT NULL GROUP BY step_order, step_no
)
SELECT
    step_order,
    sum(s) / sum(n) AS mean_score,
    interval_low(s, n) AS low,
    interval_high(s, n) AS high,
    sum(bad) / sum(n) AS bad,
    CAST(sum(n) AS BIGINT) AS ratings
FROM per_step
GROUP BY step_order
ORDER BY step_order;
