-- title: How scores are spread
-- question: How many judgements gave each score, for steps and for whole answers?
-- params: none
-- columns: judged step or answer; score stars, 1-5; ratings count
SELECT
    if(step_id IS NULL, 'answer', 'step') AS judged,
    feedback_score AS score,
    count(*) AS ratings
FROM chat_feedback
GROUP BY ALL
ORDER BY judged, score;
