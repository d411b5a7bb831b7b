-- title: How long raters look
-- question: How long does each rater look at a step, and longer at longer ones?
-- params: slow_s=300.0; quick_chars_per_s=60.0
-- columns: rater pseudonym; looks count of times noted; median_s seconds a step; s_per_100_chars seconds for 100 characters, median; length_correlation Spearman, -1 to 1, of seconds and characters; quick share of looks faster than reading
-- Looks of more than $slow_s seconds are pauses and left out. Faster than $quick_chars_per_s characters a second is faster than
-- people read. Times are noted on the label page unless the person switched that off.
WITH looks AS (
    SELECT e.rater, e.value / 1000 AS seconds, length(s.step_content) AS chars
    FROM label_events AS e
    JOIN reasoning_steps AS s ON s.id = e.step_id AND s.chat_id = e.chat_id
    WHERE e.kind = 'dwell' AND e.value BETWEEN 1 AND $slow_s * 1000
),
ranked AS (
    SELECT *, rank() OVER (PARTITION BY rater ORDER BY seconds)
              + (count(*) OVER (PARTITION BY rater, seconds) - 1) / 2.0 AS seconds_rank, -- ties share their mean rank
           rank() OVER (PARTITION BY rater ORDER BY chars) + (count(*) OVER (PARTITION BY rater, chars) - 1) / 2.0 AS chars_rank
    FROM looks
)
SELECT
    rater,
    count(*) AS looks,
    median(seconds) AS median_s,
    median(100 * seconds / chars) AS s_per_100_chars,
    if(count(*) > 2 AND stddev_pop(seconds_rank) > 0 AND stddev_pop(chars_rank) > 0, corr(seconds_rank, chars_rank), NULL)
        AS length_correlation,
    avg((chars / seconds > $quick_chars_per_s)::INT) AS quick
FROM ranked
GROUP BY rater
ORDER BY median_s, rater;
