-- title: What the ratings cover
-- topic: Coverage
-- question: Which kinds of chats are rated more, and which less, than there are of them?
-- params: none
-- columns: kind source, model, month, steps or length; value which; chats count; chats_share share of all chats; rated count of those with a rating; rated_share share of those chats that have one; ratings count; ratings_share share of all ratings; represented ratings_share for each chats_share, 1 is even
-- Length: characters of the answer, doubling from one class to the next.
WITH rated AS (
    SELECT chat_no, count(*) AS n FROM ratings GROUP BY chat_no
),
described AS (
    SELECT coalesce(r.n, 0) AS n, c.source::VARCHAR AS source, coalesce(c.model::VARCHAR, '(not said)') AS model,
           strftime(c.created_at, '%Y-%m') AS month, c.steps,
           if(c.chars = 0, 0, floor(log2(c.chars)))::INT AS size
    FROM chats AS c
    LEFT JOIN rated AS r ON r.chat_no = c.chat_no
),
grouped AS ( -- once through, then only sums
    SELECT source, model, month, steps, size, count(*) AS chats, count(*) FILTER (WHERE n > 0) AS rated, sum(n) AS ratings
    FROM described GROUP BY ALL
),
kinds AS (
    SELECT 'source' AS kind, source AS value, chats, rated, ratings FROM grouped
    UNION ALL SELECT 'model', model, chats, rated, ratings FROM grouped
    UNION ALL SELECT 'month', month, chats, rated, ratings FROM grouped
    UNION ALL SELECT 'steps', if(steps >= 10, '10 or more', steps::VARCHAR), chats, rated, ratings FROM grouped
    UNION ALL SELECT 'length', if(size = 0, '0-1', (2 ** size)::BIGINT || '-' || (2 ** (size + 1) - 1)::BIGINT), chats, rated, ratings FROM grouped
)
SELECT
    kind,
    value,
    CAST(sum(chats) AS BIGINT) AS chats,
    sum(chats) / sum(sum(chats)) OVER (PARTITION BY kind) AS chats_share,
    CAST(sum(rated) AS BIGINT) AS rated,
    sum(rated) / sum(chats) AS rated_share,
    CAST(sum(ratings) AS BIGINT) AS ratings,
    sum(ratings) / nullif(sum(sum(ratings)) OVER (PARTITION BY kind), 0) AS ratings_share,
    (sum(ratings) / nullif(sum(sum(ratings)) OVER (PARTITION BY kind), 0)) / (sum(chats) / sum(sum(chats)) OVER (PARTITION BY kind))
        AS represented
FROM kinds
GROUP BY kind, value
ORDER BY kind, chats DESC, value;
