-- What is wrong in the embedded store although no constraint forbids it. Each statement gives rows of (how it is called, what is wrong);
-- none: all is well.

-- name: steps_with_gaps
SELECT 'chat ' || chat_id, 'has ' || count(*) || ' steps, of which the last is number ' || max(step_order)
FROM reasoning_steps GROUP BY chat_id HAVING max(step_order) <> count(*) OR min(step_order) <> 1 ORDER BY chat_id LIMIT 20;

-- name: judged_without_a_step
SELECT 'decision ' || d.id, 'names the step ' || d.value || ', which its chat does not have'
FROM decisions AS d
WHERE d.kind = 'first_error' AND d.value <> ''
  AND NOT EXISTS (SELECT 1 FROM reasoning_steps AS s WHERE s.chat_id = d.chat_id AND s.id = d.value)
ORDER BY d.id LIMIT 20;

-- name: pairs_of_two_questions
SELECT 'preference ' || p.id, 'compares answers to two questions'
FROM preferences AS p JOIN chats AS a ON a.id = p.chat_id JOIN chats AS b ON b.id = p.other_id
WHERE a.query <> b.query ORDER BY p.id LIMIT 20;

-- name: runs_without_an_end
SELECT 'run ' || id, 'is ' || status || ' and has no time at which it ended'
FROM runs WHERE status IN ('succeeded', 'failed', 'cancelled', 'lost') AND finished_at IS NULL ORDER BY id LIMIT 20;

-- name: logs_with_gaps
SELECT 'the log of ' || kind || ' checkpoints', 'has ' || count(*) || ' entries, of which the last is number ' || max(number)
FROM model_log GROUP BY kind HAVING max(number) <> count(*);
