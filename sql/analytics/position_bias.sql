-- title: Does the left answer win too often
-- topic: Raters
-- question: How often does each rater prefer the answer that stood on the left, and how often none of the two?
-- params: none
-- columns: rater pseudonym; pairs count of whole answers compared; preferred count where one was better; left_share share of those where the left one was; undecided share of pairs that are equal or both bad
-- Sides are drawn by lot, so left_share should be near 0.5.
SELECT
    rater,
    count(*) AS pairs,
    count(*) FILTER (WHERE verdict IN ('chat', 'other')) AS preferred,
    avg(left_won::INT) AS left_share,
    1 - preferred / pairs AS undecided
FROM preferences
WHERE step_order IS NULL AND aspect = ''
GROUP BY rater
ORDER BY pairs DESC, rater;
