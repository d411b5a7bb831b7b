-- title: Do scores drift
-- topic: Scores
-- question: How far has the spread of scores moved from where it began, period by period?
-- params: days=30
-- columns: period first day, UTC; ratings count; mean_score stars, 1-5; change stars, against the first period; psi population stability index against the first period; verdict steady, moving or moved
-- The index sums (p - q) ln(p / q) over the five scores, half a rating added to each count; below 0.1 is steady, above 0.25 moved.
WITH counted AS (
    SELECT day - ((day - DATE '2000-01-03') % CAST($days AS INT))::INT AS period, score, count(*) AS n FROM ratings GROUP BY ALL
),
shares AS (
    SELECT p.period, s.score, coalesce(c.n, 0) AS n,
           (coalesce(c.n, 0) + 0.5) / sum(coalesce(c.n, 0) + 0.5) OVER (PARTITION BY p.period) AS p
    FROM (SELECT DISTINCT period FROM counted) AS p
    CROSS JOIN (SELECT unnest([1, 2, 3, 4, 5]) AS score) AS s
    LEFT JOIN counted AS c ON c.period = p.period AND c.score = s.score
),
begun AS (
    SELECT score, p AS q FROM shares WHERE period = (SELECT min(period) FROM counted)
),
measured AS (
    SELECT s.period, CAST(sum(s.n) AS BIGINT) AS ratings, sum(s.n * s.score) / sum(s.n) AS mean_score, sum((s.p - b.q) * ln(s.p / b.q)) AS psi
    FROM shares AS s JOIN begun AS b ON b.score = s.score
    GROUP BY s.period
)
SELECT
    period,
    ratings,
    mean_score,
    mean_score - first_value(mean_score) OVER (ORDER BY period) AS change,
    psi,
    CASE WHEN psi < 0.1 THEN 'steady' WHEN psi <= 0.25 THEN 'moving' ELSE 'moved' END AS verdict
FROM measured
ORDER BY period;
