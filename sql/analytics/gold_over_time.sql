-- title: Agreement with known answers over time
-- topic: Raters
-- question: How much of the known answers did each rater get right, day by day?
-- params: none
-- columns: rater pseudonym; day date, UTC; items count of items with a known answer; asked count of things known of them; right share of those
SELECT
    rater,
    CAST("at" AS DATE) AS day,
    count(*) AS items,
    CAST(sum(asked) AS BIGINT) AS asked,
    sum(matched) / sum(asked) AS right
FROM gold_results
GROUP BY ALL
ORDER BY day, rater;
