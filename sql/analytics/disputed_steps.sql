-- title: The most disputed steps
-- question: On which steps do raters differ most, and what was decided?
-- params: least_spread=2; most=20
-- columns: query text; step_order position; step_content text; ratings count; lowest stars, 1-5; highest stars, 1-5; decided score that counts, or empty
SELECT
    c.query,
    s.step_order,
    s.step_content,
    count(*) AS ratings,
    min(f.feedback_score) AS lowest,
    max(f.feedback_score) AS highest,
    any_value(CAST(d.value AS INT)) AS decided
FROM chat_feedback AS f
JOIN reasoning_steps AS s ON s.id = f.step_id
JOIN chats AS c ON c.id = f.chat_id
LEFT JOIN decisions AS d ON d.step_id = s.id AND d.kind = 'score'
GROUP BY c.query, s.step_order, s.step_content, s.id
HAVING max(f.feedback_score) - min(f.feedback_score) >= $least_spread
ORDER BY highest - lowest DESC, ratings DESC, s.id
LIMIT $most;
