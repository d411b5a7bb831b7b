-- title: Answers that stand there twice
-- topic: Quality
-- question: Which chats have the same question and answer, letter case and spaces at the ends aside?
-- params: most=50
-- columns: query text; copies count; sources names; models names; first_id chat; last_id chat
WITH keyed AS (
    SELECT id, query, source, model, chat_no, hash(lower(trim(query)), lower(trim(response))) AS key FROM chats
),
double AS (
    SELECT key FROM keyed GROUP BY key HAVING count(*) > 1
)
SELECT
    any_value(k.query ORDER BY k.chat_no) AS query,
    count(*) AS copies,
    array_to_string(list_sort(list_distinct(list(k.source::VARCHAR))), ', ') AS sources,
    coalesce(array_to_string(list_sort(list_distinct(list(k.model::VARCHAR) FILTER (WHERE k.model IS NOT NULL))), ', '), '') AS models,
    arg_min(k.id, k.chat_no) AS first_id,
    arg_max(k.id, k.chat_no) AS last_id
FROM keyed AS k
WHERE k.key IN (SELECT key FROM double)
GROUP BY k.key
ORDER BY copies DESC, min(k.chat_no)
LIMIT $most;
