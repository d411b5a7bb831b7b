-- title: How scores are spread
-- topic: Scores
-- question: How many judgements gave each score, for steps and for whole answers?
-- params: none
-- columns: judged step or answer; score stars, 1-5; ratings count; share share of those judgements
WITH counted AS (
    SELECT step_no IS NULL AS whole, score, count(*) AS ratings FROM ratings GROUP BY ALL
)
SELECT
    if(whole, 'answer', 'step') AS judged,
    score,
    ratings,
    ratings / sum(ratings) OVER (PARTITION BY whole) AS share
FROM counted
ORDER BY judged, score;
