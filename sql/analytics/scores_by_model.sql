-- title: Scores by model
-- topic: Scores
-- question: Which model's answers score highest?
-- params: none
-- columns: model name; mean_score stars, 1-5; low stars, of the 95% interval; high stars, of the 95% interval; bad share of scores 1-2; ratings count; chats count
WITH per_chat AS (
    SELECT model, chat_no, sum(score)::DOUBLE AS s, count(*)::DOUBLE AS n, count(*) FILTER (WHERE score <= 2) AS bad
    FROM ratings GROUP BY model, chat_no
)
SELECT
    coalesce(model::VARCHAR, '(not said)') AS model,
    sum(s) / sum(n) AS mean_score,
    interval_low(s, n) AS low,
    interval_high(s, n) AS high,
    sum(bad) / sum(n) AS bad,
    CAST(sum(n) AS BIGINT) AS ratings,
    count(*) AS chats
FROM per_chat
GROUP BY model
ORDER BY ratings DESC, 1;
