-- title: What bad steps are about
-- topic: Steps
-- question: Which words stand in the lowest scored steps much more often than in the highest scored ones?
-- params: steps=2000; fewest=5; common=0.1; most=25
-- columns: word text; bad_steps count of the lowest scored steps with the word; other_steps count of the highest scored ones; times how much likelier in a bad step; z how sure, standard errors of the log odds
-- The $steps lowest scored steps beside as many of the highest; a word counts once a step and needs $fewest steps; words
-- that more than $common of the steps have are left out, for they are about nothing. Half a step is added to each count, so that a word that only bad steps have does not count for infinitely many.
WITH per_step AS (
    SELECT step_no, avg(score) AS mean_score, count(*) AS ratings FROM ratings WHERE step_no IS NOT NULL GROUP BY step_no
),
middle AS (
    SELECT sum(mean_score * ratings) / sum(ratings) AS mean_score FROM per_step
),
worst AS (
    SELECT step_no, TRUE AS bad FROM per_step, middle WHERE per_step.mean_score < middle.mean_score
    ORDER BY per_step.mean_score, ratings DESC, step_no LIMIT $steps
),
best AS (
    SELECT step_no, FALSE AS bad FROM per_step, middle WHERE per_step.mean_score >= middle.mean_score
    ORDER BY per_step.mean_score DESC, ratings DESC, step_no LIMIT $steps
),
words AS (
    SELECT bad, unnest(list_distinct(regexp_extract_all(lower(s.step_content), '\p{L}[\p{L}''-]{2,}'))) AS word
    FROM (FROM worst UNION ALL FROM best) AS picked
    JOIN reasoning_steps AS s ON s.step_no = picked.step_no
),
sizes AS (
    SELECT (SELECT count(*) FROM worst) AS worst, (SELECT count(*) FROM best) AS best
),
counted AS (
    SELECT word, count(*) FILTER (WHERE bad) AS bad_steps, count(*) FILTER (WHERE NOT bad) AS other_steps
    FROM words GROUP BY word HAVING count(*) >= $fewest
        AND count(*) <= $common * ((SELECT count(*) FROM worst) + (SELECT count(*) FROM best))
)
SELECT
    word,
    bad_steps,
    other_steps,
    ((bad_steps + 0.5) / (worst + 1)) / ((other_steps + 0.5) / (best + 1)) AS times,
    (ln((bad_steps + 0.5) / (worst - bad_steps + 0.5)) - ln((other_steps + 0.5) / (best - other_steps + 0.5)))
        / sqrt(1 / (bad_steps + 0.5) + 1 / (worst - bad_steps + 0.5) + 1 / (other_steps + 0.5) + 1 / (best - other_steps + 0.5)) AS z
FROM counted
CROSS JOIN sizes
ORDER BY z DESC, word
LIMIT $most;
