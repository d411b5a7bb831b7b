-- title: Does the model get better
-- topic: Scores
-- question: How much better does each model's answers score than those of the one before it?
-- params: none
-- columns: generation 1 is the first by its first chat; model name; since date of its first chat, UTC; mean_score stars, 1-5; low stars, of the 95% interval; high stars, of the 95% interval; gain stars, against the one before; gain_low stars, of its 95% interval; gain_high stars, of its 95% interval; ratings count; chats count
WITH begun AS (
    SELECT model, min(created_at)::DATE AS since FROM chats WHERE model IS NOT NULL GROUP BY model
),
per_chat AS (
    SELECT model, chat_no, sum(score)::DOUBLE AS s, count(*)::DOUBLE AS n FROM ratings WHERE model IS NOT NULL GROUP BY model, chat_no
),
measured AS (
    SELECT model, sum(s) / sum(n) AS mean_score, margin(s, n) AS half, CAST(sum(n) AS BIGINT) AS ratings, count(*) AS chats
    FROM per_chat GROUP BY model
),
ordered AS (
    SELECT row_number() OVER (ORDER BY b.since, m.model) AS generation, b.since, m.*,
           lag(m.mean_score) OVER (ORDER BY b.since, m.model) AS before, lag(m.half) OVER (ORDER BY b.since, m.model) AS before_half
    FROM measured AS m JOIN begun AS b ON b.model = m.model
)
SELECT
    generation,
    model::VARCHAR AS model,
    since,
    mean_score,
    if(half IS NULL, NULL, greatest(1, mean_score - half)) AS low,
    if(half IS NULL, NULL, least(5, mean_score + half)) AS high,
    mean_score - before AS gain,
    mean_score - before - sqrt(half * half + before_half * before_half) AS gain_low,
    mean_score - before + sqrt(half * half + before_half * before_half) AS gain_high,
    ratings,
    chats
FROM ordered
ORDER BY generation;
