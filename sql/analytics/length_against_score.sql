-- title: Do longer texts score higher
-- topic: Quality
-- question: What is the mean score of steps and answers by their length?
-- params: none
-- columns: judged step or answer; chars characters, from here to the next; mean_score stars, 1-5; low stars, of the 95% interval; high stars, of the 95% interval; ratings count; correlation of score and logarithm of length over all of the kind, -1 to 1
-- Classes of length double from one to the next.
WITH sized AS (
    SELECT step_no IS NULL AS whole, chars, score, count(*) AS n FROM ratings GROUP BY ALL
),
logs AS (
    SELECT whole, score::DOUBLE AS score, n::DOUBLE AS n, ln(greatest(chars, 1)) AS x, floor(log2(greatest(chars, 1)))::INT AS size FROM sized
),
related AS (
    SELECT whole,
           (sum(n * x * score) - sum(n * x) * sum(n * score) / sum(n))
           / nullif(sqrt((sum(n * x * x) - sum(n * x) ** 2 / sum(n)) * (sum(n * score * score) - sum(n * score) ** 2 / sum(n))), 0) AS correlation
    FROM logs GROUP BY whole
)
SELECT
    if(l.whole, 'answer', 'step') AS judged,
    (2 ** l.size)::INT AS chars,
    sum(n * score) / sum(n) AS mean_score,
    greatest(1, sum(n * score) / sum(n)
        - 1.96 * sqrt(greatest(0, sum(n * score * score) / sum(n) - (sum(n * score) / sum(n)) ** 2) / sum(n))) AS low,
    least(5, sum(n * score) / sum(n)
        + 1.96 * sqrt(greatest(0, sum(n * score * score) / sum(n) - (sum(n * score) / sum(n)) ** 2) / sum(n))) AS high,
    CAST(sum(n) AS BIGINT) AS ratings,
    any_value(r.correlation) AS correlation
FROM logs AS l
JOIN related AS r ON r.whole = l.whole
GROUP BY l.whole, l.size
ORDER BY judged, chars;
