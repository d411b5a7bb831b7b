-- title: Raters who contradict themselves
-- topic: Quality
-- question: Who gave very different scores to steps of exactly the same text?
-- params: least_spread=3; most=50
-- columns: rater pseudonym; step_content text; ratings count; lowest stars, 1-5; highest stars, 1-5; chat_id one of the chats
-- The same text may be right in one answer and wrong in another, so look before you judge.
WITH repeated AS (
    SELECT text_hash FROM reasoning_steps GROUP BY text_hash HAVING count(*) > 1
),
copies AS (
    SELECT step_no, text_hash FROM reasoning_steps WHERE text_hash IN (SELECT text_hash FROM repeated)
),
said AS (
    SELECT r.rater, k.text_hash, count(*) AS ratings, min(r.score) AS lowest, max(r.score) AS highest, min(r.step_no) AS step_no
    FROM ratings AS r JOIN copies AS k ON k.step_no = r.step_no
    GROUP BY r.rater, k.text_hash
    HAVING max(r.score) - min(r.score) >= $least_spread
    ORDER BY highest - lowest DESC, ratings DESC, r.rater, step_no
    LIMIT $most
)
SELECT d.rater::VARCHAR AS rater, s.step_content, d.ratings, d.lowest, d.highest, s.chat_id
FROM said AS d
JOIN reasoning_steps AS s ON s.step_no = d.step_no
ORDER BY d.highest - d.lowest DESC, d.ratings DESC, d.rater, d.step_no;
