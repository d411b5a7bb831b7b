-- title: Where in the reasoning answers go wrong
-- question: What is the mean score of the first, second, third ... step?
-- params: none
-- columns: step_order position, 1 is the first; mean_score stars, 1-5; ratings count
SELECT
    s.step_order,
    avg(f.feedback_score) AS mean_score,
    count(*) AS ratings
FROM chat_feedback AS f
JOIN reasoning_steps AS s ON s.id = f.step_id AND s.chat_id = f.chat_id
GROUP BY s.step_order
ORDER BY s.step_order;
