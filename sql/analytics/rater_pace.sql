-- title: How long raters look
-- topic: Raters
-- question: How long does each rater look at a step, and longer at longer ones?
-- params: quick_chars_per_s=60.0
-- columns: rater pseudonym; looks count of times noted; median_s seconds a step; s_per_100_chars seconds for 100 characters, median; length_correlation Spearman, -1 to 1, of seconds and characters; quick share of looks faster than reading
-- Looks of more than 5 minutes are pauses and left out. Faster than $quick_chars_per_s characters a second is faster than people read.
-- Times are noted on the label page unless the person switched that off.
SELECT
    rater::VARCHAR AS rater,
    count(*) AS looks,
    median(seconds) AS median_s,
    median(100 * seconds / chars) AS s_per_100_chars,
    if(count(*) > 2 AND stddev_pop(seconds_rank) > 0 AND stddev_pop(chars_rank) > 0, corr(seconds_rank, chars_rank), NULL)
        AS length_correlation,
    avg((chars / seconds > $quick_chars_per_s)::INT) AS quick
FROM looks
GROUP BY rater
ORDER BY median_s, 1;
