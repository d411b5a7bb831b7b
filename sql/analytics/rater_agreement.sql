-- title: Who agrees with the others
-- topic: Raters
-- question: How close are each rater's scores to the mean of the others who judged the same thing?
-- params: fewest=5
-- columns: rater pseudonym; things_in_common count, judged by somebody else too; distance stars from the others' mean, on average; within_one share within one star of it; correlation with the others' mean, -1 to 1
-- Raters with fewer than $fewest things in common are left out.
SELECT
    rater::VARCHAR AS rater,
    count(*) AS things_in_common,
    avg(abs(score - others_mean)) AS distance,
    avg((abs(score - others_mean) <= 1)::INT) AS within_one,
    if(stddev_pop(score) > 0 AND stddev_pop(others_mean) > 0, corr(score, others_mean), NULL) AS correlation
FROM ratings
WHERE others_mean IS NOT NULL
GROUP BY rater
HAVING count(*) >= $fewest
ORDER BY distance, 1;
