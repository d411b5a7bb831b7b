-- title: Answers that stand there twice
-- topic: Quality
-- question: Which chats have the same question and answer, letter case and spaces at the ends aside?
-- params: most=50
-- columns: query text; copies count; sources names; models names; first_id chat; last_id chat
WITH double AS (
    SELECT answer_hash FROM chats GROUP BY answer_hash HAVING count(*) > 1
    ORDER BY count(*) DESC, min(chat_no) LIMIT $most
)
SELECT
    any_value(k.query ORDER BY k.chat_no) AS query,
    count(*) AS copies,
    array_to_string(list_sort(list_distinct(list(k.source::VARCHAR))), ', ') AS sources,
    coalesce(array_to_string(list_sort(list_distinct(list(k.model::VARCHAR) FILTER (WHERE k.model IS NOT NULL))), ', '), '') AS models,
    arg_min(k.id, k.chat_no) AS first_id,
    arg_max(k.id, k.chat_no) AS last_id
FROM chats AS k
WHERE k.answer_hash IN (SELECT answer_hash FROM double)
GROUP BY k.answer_hash
ORDER BY copies DESC, min(k.chat_no)
LIMIT $most;
