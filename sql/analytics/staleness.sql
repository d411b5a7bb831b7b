-- title: How old the ratings are
-- topic: Coverage
-- question: How much of the ratings, and of the chats, is how old, counted from the newest rating or chat?
-- params: none
-- columns: age_months months, 0 is the newest 30 days; ratings count; ratings_share share of all ratings; chats count of chats of that age; chats_share share of all chats
WITH rating_days AS MATERIALIZED (
    SELECT day, count(*) AS ratings FROM ratings GROUP BY day
),
chat_days AS MATERIALIZED (
    SELECT created_at::DATE AS day, count(*) AS chats FROM chats GROUP BY 1
),
newest AS (
    SELECT greatest((SELECT max(day) FROM rating_days), (SELECT max(day) FROM chat_days)) AS day
),
rated AS (
    SELECT (n.day - r.day) // 30 AS age_months, sum(r.ratings)::BIGINT AS ratings FROM rating_days AS r, newest AS n GROUP BY 1
),
arrived AS (
    SELECT (n.day - c.day) // 30 AS age_months, sum(c.chats)::BIGINT AS chats FROM chat_days AS c, newest AS n GROUP BY 1
)
SELECT
    coalesce(r.age_months, a.age_months)::INT AS age_months,
    coalesce(r.ratings, 0) AS ratings,
    coalesce(r.ratings, 0) / nullif(sum(r.ratings) OVER (), 0) AS ratings_share,
    coalesce(a.chats, 0) AS chats,
    coalesce(a.chats, 0) / nullif(sum(a.chats) OVER (), 0) AS chats_share
FROM rated AS r
FULL JOIN arrived AS a ON a.age_months = r.age_months
ORDER BY age_months;
