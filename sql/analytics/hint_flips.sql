-- title: How often a checkpoint's opinion changes minds
-- topic: Quality
-- question: Of what people had said when they saw a checkpoint's opinion, how much did they change afterwards, and toward it?
-- params: none
-- columns: checkpoint_id checkpoint; kind score or preference; shown count of judgements; changed count; flip_rate share of those shown; toward share of the changed that moved toward the checkpoint
-- Taking a judgement back is a change too.
WITH scores AS (
    SELECT h.checkpoint_id, 'score' AS kind, h.said IS DISTINCT FROM CAST(f.score AS VARCHAR) AS flipped,
           CAST(h.said AS DOUBLE) AS before, CAST(f.score AS DOUBLE) AS after, sign(h.reward - CAST(h.said AS DOUBLE)) AS pull
    FROM hints_shown AS h
    JOIN chats AS c ON c.id = h.chat_id
    LEFT JOIN reasoning_steps AS t ON t.id = h.step_id
    LEFT JOIN ratings AS f
        ON f.rater = h.rater::rater_name AND f.chat_no = c.chat_no AND f.step_no IS NOT DISTINCT FROM t.step_no
    WHERE h.other_id IS NULL
),
choices AS (
    SELECT h.checkpoint_id, 'preference' AS kind, h.said IS DISTINCT FROM p.verdict AS flipped,
           CASE h.said WHEN 'chat' THEN 1.0 WHEN 'other' THEN -1.0 ELSE 0.0 END AS before,
           CASE p.verdict WHEN 'chat' THEN 1.0 WHEN 'other' THEN -1.0 WHEN 'tie' THEN 0.0 WHEN 'both_bad' THEN 0.0 END AS after,
           sign(h.reward) AS pull
    FROM hints_shown AS h
    LEFT JOIN preferences AS p
        ON p.rater = h.rater AND p.chat_id = h.chat_id AND p.other_id = h.other_id AND p.step_order IS NULL AND p.aspect = ''
    WHERE h.other_id IS NOT NULL
)
SELECT
    checkpoint_id,
    kind,
    count(*) AS shown,
    count(*) FILTER (WHERE flipped) AS changed,
    avg(flipped::INT) AS flip_rate,
    avg((coalesce(sign(after - before), 0) = pull)::INT) FILTER (WHERE flipped) AS toward
FROM (FROM scores UNION ALL FROM choices)
GROUP BY checkpoint_id, kind
ORDER BY checkpoint_id, kind;
