-- title: Where the first error stands
-- topic: Steps
-- question: At which step do answers go wrong first, of those that were right until then?
-- params: none
-- columns: step_order position, 1 is the first; first_errors count of judgements of a chat; reached count of judgements that got there without an error; hazard share of those reached; share share of all judged chats
-- A rater's first error is the step they marked; without a mark, the first that they gave 1 or 2 stars.
WITH judged AS (
    SELECT first_error, greatest(judged_to, first_error) AS judged_to FROM judged_chats
    WHERE judged_to IS NOT NULL
),
ends AS (
    SELECT coalesce(first_error, judged_to) AS step_order, count(*) FILTER (WHERE first_error IS NOT NULL) AS first_errors, count(*) AS ended
    FROM judged GROUP BY 1
),
positions AS (
    SELECT unnest(range(1, (SELECT max(step_order) + 1 FROM ends))) AS step_order
)
SELECT
    p.step_order::INT AS step_order,
    coalesce(e.first_errors, 0) AS first_errors,
    CAST(sum(coalesce(e.ended, 0)) OVER (ORDER BY p.step_order DESC) AS BIGINT) AS reached,
    coalesce(e.first_errors, 0) / sum(coalesce(e.ended, 0)) OVER (ORDER BY p.step_order DESC) AS hazard,
    coalesce(e.first_errors, 0) / sum(coalesce(e.ended, 0)) OVER () AS share
FROM positions AS p
LEFT JOIN ends AS e ON e.step_order = p.step_order
ORDER BY p.step_order;
