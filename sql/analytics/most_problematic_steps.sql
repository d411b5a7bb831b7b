-- title: The most problematic steps
-- question: Which steps do people score lowest? A shrunken mean keeps one harsh vote from leading the list.
-- params: prior_ratings=3; most=20
-- columns: query text; step_order position; step_content text; shrunken_score stars, 1-5; mean_score stars, 1-5; ratings count
-- Each mean is pulled toward the mean of all steps as if $prior_ratings further people had given that.
-- Where a dispute was decided, the decision stands for the mean.
WITH all_steps AS (
    SELECT avg(feedback_score) AS mean_score FROM chat_feedback WHERE step_id IS NOT NULL
),
per_step AS (
    SELECT f.step_id, coalesce(any_value(CAST(d.value AS DOUBLE)), avg(f.feedback_score)) AS mean_score, count(*) AS ratings
    FROM chat_feedback AS f
    LEFT JOIN decisions AS d ON d.chat_id = f.chat_id AND d.step_id = f.step_id AND d.kind = 'score'
    WHERE f.step_id IS NOT NULL
    GROUP BY f.step_id
)
SELECT
    c.query,
    s.step_order,
    s.step_content,
    (p.mean_score * p.ratings + a.mean_score * $prior_ratings) / (p.ratings + $prior_ratings) AS shrunken_score,
    p.mean_score,
    p.ratings
FROM per_step AS p
CROSS JOIN all_steps AS a
JOIN reasoning_steps AS s ON s.id = p.step_id
JOIN chats AS c ON c.id = s.chat_id
ORDER BY shrunken_score, p.ratings DESC, s.id
LIMIT $most;
