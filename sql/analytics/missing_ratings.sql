-- title: What is not rated
-- topic: Coverage
-- question: How many chats has nobody, somebody in part, or somebody wholly rated?
-- params: none
-- columns: state what of it is rated; chats count; share share of all chats
WITH answers AS (
    SELECT chat_no, count(*) AS n FROM ratings WHERE step_no IS NULL GROUP BY chat_no
),
steps AS (
    SELECT chat_no, count(DISTINCT step_order) AS n FROM ratings WHERE step_no IS NOT NULL GROUP BY chat_no
),
states AS (
    SELECT CASE WHEN s.n IS NULL AND a.n IS NULL THEN 'nothing'
                WHEN s.n IS NULL THEN 'the answer, no step'
                WHEN s.n < c.steps THEN 'some steps'
                WHEN a.n IS NULL THEN 'every step, not the answer'
                ELSE 'everything' END AS state
    FROM chats AS c
    LEFT JOIN answers AS a ON a.chat_no = c.chat_no
    LEFT JOIN steps AS s ON s.chat_no = c.chat_no
)
SELECT state, count(*) AS chats, count(*) / sum(count(*)) OVER () AS share
FROM states
GROUP BY state
ORDER BY chats DESC, state;
