-- title: What visitors do with answers
-- topic: Scores
-- question: What do visitors of chat applications do with answers beside rating them, and are those answers rated higher or lower than others?
-- params: none
-- columns: signal what they did; times count; chats count of those with it; people count; median_value characters, or milliseconds of dwell; mean_score stars, of all ratings of those chats; other_mean stars, of all ratings of the other chats
-- What raters do on the label page (looking, changing a score, skipping) is no sign of a visitor's and is left out.
WITH events AS (
    SELECT e.kind, e.value, e.rater, c.chat_no FROM label_events AS e JOIN chats AS c ON c.id = e.chat_id
    JOIN people AS p ON p.rater = e.rater
    WHERE p.origin = 'application'
),
signals AS (
    SELECT kind, count(*) AS times, count(DISTINCT chat_no) AS chats, count(DISTINCT rater) AS people, median(value) AS median_value
    FROM events GROUP BY kind
),
totals AS (
    SELECT sum(score) AS total, count(*) AS n FROM ratings
),
rated AS (
    SELECT k.kind, sum(r.score) AS total, count(r.score) AS n
    FROM (SELECT DISTINCT kind, chat_no FROM events) AS k LEFT JOIN ratings AS r ON r.chat_no = k.chat_no
    GROUP BY k.kind
)
SELECT
    s.kind AS signal,
    s.times,
    s.chats,
    s.people,
    s.median_value,
    r.total / nullif(r.n, 0) AS mean_score,
    (t.total - coalesce(r.total, 0)) / nullif(t.n - r.n, 0) AS other_mean
FROM signals AS s JOIN rated AS r ON r.kind = s.kind CROSS JOIN totals AS t
ORDER BY s.times DESC, 1;
