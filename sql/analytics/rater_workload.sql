-- title: Who rates how much
-- topic: Raters
-- question: How is the work shared among raters?
-- params: none
-- columns: rater pseudonym; ratings count; share share of all ratings; chats count; days count of days with ratings; a_day ratings on such a day; first_day date, UTC; last_day date, UTC; demo share by the demo set's fictional raters
WITH per_day AS (
    SELECT rater, day, count(*) AS n, count(*) FILTER (WHERE is_demo) AS demo FROM ratings GROUP BY rater, day
),
per_chat AS (
    SELECT rater, count(*) AS chats FROM (SELECT DISTINCT rater, chat_no FROM ratings) GROUP BY rater
)
SELECT
    d.rater::VARCHAR AS rater,
    CAST(sum(d.n) AS BIGINT) AS ratings,
    sum(d.n) / sum(sum(d.n)) OVER () AS share,
    any_value(c.chats) AS chats,
    count(*) AS days,
    sum(d.n) / count(*) AS a_day,
    min(d.day) AS first_day,
    max(d.day) AS last_day,
    sum(d.demo) / sum(d.n) AS demo
FROM per_day AS d
JOIN per_chat AS c ON c.rater = d.rater
GROUP BY d.rater
ORDER BY ratings DESC, 1;
