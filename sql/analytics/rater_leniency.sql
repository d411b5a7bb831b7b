-- title: Who rates high, who rates low
-- question: How much higher or lower does each rater score than the others who judged the same thing?
-- params: fewest=1
-- columns: rater pseudonym; ratings count; mean_score stars, 1-5; things_in_common count, judged by somebody else too; leniency stars above the others' mean of the same things; low share of scores 1-2; high share of scores 4-5
-- Only raters with at least $fewest things in common have a leniency; the others' is null.
WITH per_thing AS (
    SELECT chat_id, step_id, sum(feedback_score) AS total, count(*) AS n FROM chat_feedback GROUP BY ALL
),
compared AS (
    SELECT f.rater, f.feedback_score,
           if(p.n > 1, f.feedback_score - (p.total - f.feedback_score) / (p.n - 1), NULL) AS above
    FROM chat_feedback AS f
    JOIN per_thing AS p ON p.chat_id = f.chat_id AND p.step_id IS NOT DISTINCT FROM f.step_id
)
SELECT
    rater,
    count(*) AS ratings,
    avg(feedback_score) AS mean_score,
    count(above) AS things_in_common,
    if(count(above) >= $fewest, avg(above), NULL) AS leniency,
    avg((feedback_score <= 2)::INT) AS low,
    avg((feedback_score >= 4)::INT) AS high
FROM compared
GROUP BY rater
ORDER BY leniency DESC NULLS LAST, rater;
