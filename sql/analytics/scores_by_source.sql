-- title: Scores by source
-- topic: Scores
-- question: Do chats from some sources score higher than others?
-- params: none
-- columns: source name; mean_score stars, 1-5; low stars, of the 95% interval; high stars, of the 95% interval; bad share of scores 1-2; ratings count; chats count
WITH per_chat AS (
    SELECT source, chat_no, sum(score)::DOUBLE AS s, count(*)::DOUBLE AS n, count(*) FILTER (WHERE score <= 2) AS bad
    FROM ratings GROUP BY source, chat_no
)
SELECT
    coalesce(source::VARCHAR, '(not said)') AS source,
    sum(s) / sum(n) AS mean_score,
    interval_low(s, n) AS low,
    interval_high(s, n) AS high,
    sum(bad) / sum(n) AS bad,
    CAST(sum(n) AS BIGINT) AS ratings,
    count(*) AS chats
FROM per_chat
GROUP BY source
ORDER BY ratings DESC, 1;
