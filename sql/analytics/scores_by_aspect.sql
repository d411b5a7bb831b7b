-- title: Scores by aspect
-- topic: Scores
-- question: In which aspects do answers score high, in which low?
-- params: none
-- columns: aspect name; mean_score stars, 1-5; low stars, of the 95% interval; high stars, of the 95% interval; ratings count; raters count
WITH per_chat AS (
    SELECT aspect, chat_id, sum(score)::DOUBLE AS s, count(*)::DOUBLE AS n FROM aspect_ratings GROUP BY aspect, chat_id
),
raters AS (
    SELECT aspect, count(DISTINCT rater) AS raters FROM aspect_ratings GROUP BY aspect
)
SELECT
    p.aspect,
    sum(s) / sum(n) AS mean_score,
    interval_low(s, n) AS low,
    interval_high(s, n) AS high,
    CAST(sum(n) AS BIGINT) AS ratings,
    any_value(r.raters) AS raters
FROM per_chat AS p
JOIN raters AS r ON r.aspect = p.aspect
GROUP BY p.aspect
ORDER BY p.aspect;
