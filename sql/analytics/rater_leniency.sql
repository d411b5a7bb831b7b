-- title: Who rates high, who rates low
-- topic: Raters
-- question: How much higher or lower does each rater score than the others who judged the same thing?
-- params: fewest=1
-- columns: rater pseudonym; ratings count; mean_score stars, 1-5; things_in_common count, judged by somebody else too; leniency stars above the others' mean of the same things; margin stars, half of its 95% interval; low share of scores 1-2; high share of scores 4-5
-- Only raters with at least $fewest things in common have a leniency; the others' is null.
SELECT
    rater::VARCHAR AS rater,
    count(*) AS ratings,
    avg(score) AS mean_score,
    count(others_mean) AS things_in_common,
    if(count(others_mean) >= $fewest, avg(score - others_mean), NULL) AS leniency,
    if(count(others_mean) >= $fewest, 1.96 * stddev_samp(score - others_mean) / sqrt(count(others_mean)), NULL) AS margin,
    avg((score <= 2)::INT) AS low,
    avg((score >= 4)::INT) AS high
FROM ratings
GROUP BY rater
ORDER BY leniency DESC NULLS LAST, 1;
