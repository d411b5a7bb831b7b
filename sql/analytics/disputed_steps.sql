-- title: The most disputed steps
-- topic: Quality
-- question: On which steps do raters differ most, and what was decided?
-- params: least_spread=2; most=20
-- columns: query text; step_order position; step_content text; ratings count; lowest stars, 1-5; highest stars, 1-5; decided score that counts, or empty; chat_id chat
WITH spread AS (
    SELECT step_no, count(*) AS ratings, min(score) AS lowest, max(score) AS highest
    FROM ratings WHERE step_no IS NOT NULL GROUP BY step_no
    HAVING max(score) - min(score) >= $least_spread
    ORDER BY highest - lowest DESC, ratings DESC, step_no
    LIMIT $most
)
SELECT
    c.query,
    s.step_order,
    s.step_content,
    p.ratings,
    p.lowest,
    p.highest,
    CAST(d.value AS INT) AS decided,
    c.id AS chat_id
FROM spread AS p
JOIN reasoning_steps AS s ON s.step_no = p.step_no
JOIN chats AS c ON c.chat_no = s.chat_no
LEFT JOIN decisions AS d ON d.step_id = s.id AND d.kind = 'score'
ORDER BY p.highest - p.lowest DESC, p.ratings DESC, s.step_no;
