-- title: Scores at each step
-- topic: Steps
-- question: How many ratings gave each score at the first, second, third ... step?
-- params: none
-- columns: step_order position, 1 is the first; score stars, 1-5; ratings count; share share of the ratings at that step
SELECT
    step_order,
    score,
    count(*) AS ratings,
    count(*) / sum(count(*)) OVER (PARTITION BY step_order) AS share
FROM ratings
WHERE step_no IS NOT NULL
GROUP BY step_order, score
ORDER BY step_order, score;
