-- title: The most problematic steps
-- topic: Steps
-- question: Which steps do people score lowest? A shrunken mean keeps one harsh vote from leading the list.
-- params: prior_ratings=3; most=20
-- columns: query text; step_order position; step_content text; shrunken_score stars, 1-5; mean_score stars, 1-5; ratings count; chat_id chat
-- Each mean is pulled toward the mean of all steps as if $prior_ratings further people had given that.
-- Where a dispute was decided, the decision stands for the mean.
WITH all_steps AS (
    SELECT avg(score) AS mean_score FROM ratings WHERE step_no IS NOT NULL
),
decided AS (
    SELECT s.step_no, any_value(CAST(d.value AS DOUBLE)) AS decided
    FROM decisions AS d JOIN reasoning_steps AS s ON s.id = d.step_id AND s.chat_id = d.chat_id
    WHERE d.kind = 'score' GROUP BY s.step_no
),
per_step AS (
    SELECT step_no, avg(score) AS mean_score, count(*) AS ratings FROM ratings WHERE step_no IS NOT NULL GROUP BY step_no
),
counted AS (
    SELECT p.step_no, coalesce(d.decided, p.mean_score) AS mean_score, p.ratings,
           (coalesce(d.decided, p.mean_score) * p.ratings + a.mean_score * $prior_ratings) / (p.ratings + $prior_ratings) AS shrunken_score
    FROM per_step AS p
    CROSS JOIN all_steps AS a
    LEFT JOIN decided AS d ON d.step_no = p.step_no
    ORDER BY shrunken_score, p.ratings DESC, p.step_no
    LIMIT $most
)
SELECT c.query, s.step_order, s.step_content, p.shrunken_score, p.mean_score, p.ratings, c.id AS chat_id
FROM counted AS p
JOIN reasoning_steps AS s ON s.step_no = p.step_no
JOIN chats AS c ON c.chat_no = s.chat_no
ORDER BY p.shrunken_score, p.ratings DESC, s.step_no;
