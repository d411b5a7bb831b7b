-- title: Scores by aspect
-- topic: Scores
-- question: In which aspects do answers score high, in which low?
-- params: none
-- columns: aspect name; mean_score stars, 1-5; low stars, of the 95% interval; high stars, of the 95% interval; ratings count; raters count
-- The interval is that of interval_low and interval_high, from totals that each rating carries.
WITH summed AS (
    SELECT aspect, avg(score) AS mean, count(*) AS n, sum(score::BIGINT * chat_total) AS ss, sum(chat_total) AS sn, sum(chat_ratings) AS nn,
           round(sum(1.0::DOUBLE / chat_ratings)) AS chats, count(DISTINCT rater) AS raters
    FROM aspect_ratings GROUP BY aspect
),
wide AS (
    SELECT *, 1.96 * sqrt(greatest(0, ss - 2 * mean * sn + mean * mean * nn) * chats / nullif(chats - 1, 0)) / n AS margin FROM summed
)
SELECT
    aspect,
    mean AS mean_score,
    if(chats > 1, greatest(1, mean - margin), NULL) AS low,
    if(chats > 1, least(5, mean + margin), NULL) AS high,
    n AS ratings,
    raters
FROM wide
ORDER BY aspect;
