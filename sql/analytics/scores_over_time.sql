-- title: Scores over time
-- topic: Scores
-- question: Do people score higher or lower than they used to?
-- params: days=7
-- columns: period first day, UTC; mean_score stars, 1-5; low stars, of the 95% interval; high stars, of the 95% interval; ratings count; chats count
-- Periods of $days days.
WITH per_chat AS (
    SELECT day - ((day - DATE '2000-01-03') % CAST($days AS INT))::INT AS period, chat_no, sum(score)::DOUBLE AS s, count(*)::DOUBLE AS n
    FROM ratings GROUP BY ALL
)
SELECT
    period,
    sum(s) / sum(n) AS mean_score,
    interval_low(s, n) AS low,
    interval_high(s, n) AS high,
    CAST(sum(n) AS BIGINT) AS ratings,
    count(*) AS chats
FROM per_chat
GROUP BY period
ORDER BY period;
