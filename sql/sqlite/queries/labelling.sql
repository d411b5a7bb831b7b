-- Statements of the label page: queues, leases, marks, what it sends. Each begins with its name; values are $named.

-- name: chats_of_queue
SELECT id, query, response, source, model, external_id, owner_id, created_at FROM chats
WHERE id IN (SELECT chat_id FROM queue_items WHERE queue_id = $queue_id UNION SELECT other_id FROM queue_items WHERE queue_id = $queue_id)
ORDER BY created_at, id
LIMIT $limit;

-- name: queues
SELECT id, name, guidelines, item_order, overlap, lease_s, checkpoint_id, source, words, created_at, task, asks, gold_rate, screening,
       screening_pass, hint_checkpoint, archived, listed
FROM queues
ORDER BY archived, created_at, id;

-- name: save_queue
INSERT INTO queues (id, name, guidelines, item_order, overlap, lease_s, checkpoint_id, source, words, created_at, task, asks, gold_rate,
                    screening, screening_pass, hint_checkpoint, listed)
VALUES ($id, $name, $guidelines, $item_order, $overlap, $lease_s, $checkpoint_id, $source, $words, $now, $task, $asks, $gold_rate,
        $screening, $screening_pass, $hint_checkpoint, $listed)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, guidelines = excluded.guidelines, item_order = excluded.item_order, overlap = excluded.overlap,
    lease_s = excluded.lease_s, checkpoint_id = excluded.checkpoint_id, source = excluded.source, words = excluded.words,
    task = excluded.task, asks = excluded.asks, gold_rate = excluded.gold_rate, screening = excluded.screening,
    screening_pass = excluded.screening_pass, hint_checkpoint = excluded.hint_checkpoint, listed = excluded.listed;

-- name: archive_queue
UPDATE queues SET archived = $archived WHERE id = $id RETURNING id;

-- name: drop_priorities
DELETE FROM queue_priorities WHERE queue_id = $queue_id;

-- name: list_queue
UPDATE queues SET listed = 1 WHERE id = $queue_id RETURNING id;

-- name: drop_queue_chats
DELETE FROM queue_chats WHERE queue_id = $queue_id;

-- name: add_queue_chats
INSERT INTO queue_chats (queue_id, chat_id, steps)
SELECT $queue_id, c.id, given.value FROM json_each($chats) AS given JOIN chats AS c ON c.id = given.key;

-- name: steps_asked
SELECT chat_id, steps FROM queue_chats
WHERE queue_id = $queue_id AND steps <> '[]' AND chat_id IN (SELECT value FROM json_each($chat_ids));

-- name: queue
SELECT id, name, guidelines, item_order, overlap, lease_s, checkpoint_id, source, words, created_at, task, asks, gold_rate, screening,
       screening_pass, hint_checkpoint, archived, listed
FROM queues
WHERE id = $queue_id;

-- name: drop_lost_leases
-- Mine that ran out and that enough others have taken since. Items with a known answer are for everybody.
DELETE FROM assignments AS mine
WHERE queue_id = $queue_id AND user_id = $user_id AND status = 'open' AND leased_until <= $now
  AND NOT EXISTS (SELECT 1 FROM gold AS g, queues AS q WHERE g.chat_id = mine.chat_id AND g.other_id IS mine.other_id
                    AND q.id = $queue_id AND (q.gold_rate > 0 OR q.screening > 0))
  AND (SELECT count(*) FROM assignments AS a
       WHERE a.queue_id = $queue_id AND a.chat_id = mine.chat_id AND a.other_id IS mine.other_id AND a.user_id <> $user_id
         AND (a.status = 'submitted' OR (a.status = 'open' AND a.leased_until > $now)))
      >= (SELECT overlap FROM queues WHERE id = $queue_id);

-- name: renew_leases
UPDATE assignments SET leased_until = $until WHERE queue_id = $queue_id AND user_id = $user_id AND status = 'open';

-- name: my_open
SELECT chat_id, other_id FROM assignments WHERE queue_id = $queue_id AND user_id = $user_id AND status = 'open'
ORDER BY claimed_at, chat_id, other_id;

-- name: candidates
SELECT i.chat_id, i.other_id FROM queue_items AS i
JOIN queues AS q ON q.id = i.queue_id
LEFT JOIN queue_priorities AS p ON p.queue_id = i.queue_id AND p.chat_id = i.chat_id
WHERE i.queue_id = $queue_id
  AND (q.item_order NOT IN ('uncertain', 'convincing') OR p.priority IS NOT NULL)
  AND NOT EXISTS (SELECT 1 FROM assignments AS a
                  WHERE a.queue_id = i.queue_id AND a.chat_id = i.chat_id AND a.other_id IS i.other_id AND a.user_id = $user_id)
  AND (SELECT count(*) FROM assignments AS a
       WHERE a.queue_id = i.queue_id AND a.chat_id = i.chat_id AND a.other_id IS i.other_id
         AND (a.status = 'submitted' OR (a.status = 'open' AND a.leased_until > $now))) < q.overlap
  AND (q.gold_rate = 0 AND q.screening = 0
       OR NOT EXISTS (SELECT 1 FROM gold AS g WHERE g.chat_id = i.chat_id AND g.other_id IS i.other_id))
ORDER BY CASE q.item_order
           WHEN 'random' THEN random() / 1e19
           WHEN 'fewest' THEN iif(i.other_id IS NULL,
             (SELECT count(DISTINCT f.user_id) FROM chat_feedback AS f WHERE f.chat_id = i.chat_id),
             (SELECT count(DISTINCT f.user_id) FROM preferences AS f WHERE f.chat_id = i.chat_id AND f.other_id = i.other_id))
           WHEN 'disagreement' THEN -iif(i.other_id IS NULL, ifnull((
             SELECT max(spread) FROM (SELECT avg(f.feedback_score * f.feedback_score) - avg(f.feedback_score) * avg(f.feedback_score) AS spread
                                      FROM chat_feedback AS f WHERE f.chat_id = i.chat_id GROUP BY f.step_id)), 0),
             (SELECT count(DISTINCT f.verdict) FROM preferences AS f
              WHERE f.chat_id = i.chat_id AND f.other_id = i.other_id AND f.step_order IS NULL AND f.aspect = ''))
           WHEN 'oldest' THEN 0
           ELSE -p.priority
         END, i.created_at, i.chat_id, i.other_id
LIMIT $count;

-- name: gold_candidates
-- Whose answer this person was told already comes last, and only where $again.
SELECT i.chat_id, i.other_id FROM queue_items AS i
JOIN gold AS g ON g.chat_id = i.chat_id AND g.other_id IS i.other_id
LEFT JOIN (SELECT DISTINCT chat_id, other_id FROM gold_results WHERE user_id = $user_id) AS told
       ON told.chat_id = i.chat_id AND told.other_id IS i.other_id
WHERE i.queue_id = $queue_id AND ($again OR told.chat_id IS NULL)
  AND NOT EXISTS (SELECT 1 FROM assignments AS a
                  WHERE a.queue_id = i.queue_id AND a.chat_id = i.chat_id AND a.other_id IS i.other_id AND a.user_id = $user_id)
ORDER BY told.chat_id IS NOT NULL, random()
LIMIT $count;

-- name: screened
-- Of this person's first known answers in the queue: how many they gave, and the mean share that they got right.
SELECT count(*), avg(share) FROM (
    SELECT 1.0 * matched / asked AS share FROM gold_results WHERE queue_id = $queue_id AND user_id = $user_id AND counts = 1
    ORDER BY at, rowid LIMIT $screening);

-- name: gold_in_hand
SELECT count(*) FROM assignments AS a JOIN gold AS g ON g.chat_id = a.chat_id AND g.other_id IS a.other_id
WHERE a.queue_id = $queue_id AND a.user_id = $user_id AND a.status = 'open';

-- name: assign
INSERT INTO assignments (queue_id, chat_id, other_id, user_id, status, leased_until, claimed_at)
VALUES ($queue_id, $chat_id, $other_id, $user_id, 'open', $until, $now);

-- name: release
DELETE FROM assignments WHERE queue_id = $queue_id AND user_id = $user_id AND status = 'open'
  AND ($chat_id IS NULL OR chat_id = $chat_id);

-- name: finish
-- A lease that ran out is no reason to lose the work: it counts while there is room for it.
INSERT INTO assignments (queue_id, chat_id, other_id, user_id, status, claimed_at, finished_at, reason)
SELECT $queue_id, c.id, $other_id, $user_id, $status, $now, $now, $reason FROM chats AS c
WHERE c.id = $chat_id AND EXISTS (SELECT 1 FROM queues WHERE id = $queue_id)
  AND ($other_id IS NULL OR EXISTS (SELECT 1 FROM chats AS o WHERE o.id = $other_id AND o.query = c.query))
  AND (EXISTS (SELECT 1 FROM queues WHERE id = $queue_id AND gold_rate = 0 AND screening = 0)
       OR EXISTS (SELECT 1 FROM assignments AS a -- where answers are known, only what was handed out
                  WHERE a.queue_id = $queue_id AND a.chat_id = c.id AND a.other_id IS $other_id AND a.user_id = $user_id))
  AND ($status = 'skipped'
       OR EXISTS (SELECT 1 FROM assignments AS a
                  WHERE a.queue_id = $queue_id AND a.chat_id = c.id AND a.other_id IS $other_id AND a.user_id = $user_id
                    AND (a.status = 'submitted' OR a.leased_until > $now))
       OR EXISTS (SELECT 1 FROM gold AS g, queues AS q WHERE g.chat_id = c.id AND g.other_id IS $other_id
                    AND q.id = $queue_id AND (q.gold_rate > 0 OR q.screening > 0))
       OR (SELECT count(*) FROM assignments AS a
           WHERE a.queue_id = $queue_id AND a.chat_id = c.id AND a.other_id IS $other_id AND a.user_id <> $user_id
             AND (a.status = 'submitted' OR (a.status = 'open' AND a.leased_until > $now)))
          < (SELECT overlap FROM queues WHERE id = $queue_id))
ON CONFLICT (queue_id, chat_id, ifnull(other_id, ''), user_id) DO UPDATE
SET status = excluded.status, leased_until = NULL, finished_at = excluded.finished_at, reason = excluded.reason
RETURNING chat_id;

-- name: queue_progress
SELECT (SELECT count(*) FROM assignments WHERE queue_id = $queue_id AND user_id = $user_id AND status = 'submitted'),
       (SELECT count(*) FROM assignments WHERE queue_id = $queue_id AND user_id = $user_id AND status = 'skipped'),
       (SELECT count(*) FROM queue_items WHERE queue_id = $queue_id),
       (SELECT count(*) FROM (SELECT 1 FROM assignments WHERE queue_id = $queue_id AND status = 'submitted'
                              GROUP BY chat_id, other_id HAVING count(*) >= q.overlap))
FROM queues AS q WHERE q.id = $queue_id;

-- name: marks
SELECT first_error, flags FROM chat_marks WHERE user_id = $user_id AND chat_id = $chat_id;

-- name: set_first_error
INSERT INTO chat_marks (user_id, chat_id, first_error, updated_at)
SELECT $user_id, c.id, $step_id, $now FROM chats AS c
WHERE c.id = $chat_id
  AND ($step_id IS NULL OR EXISTS (SELECT 1 FROM reasoning_steps AS s WHERE s.id = $step_id AND s.chat_id = c.id))
ON CONFLICT (user_id, chat_id) DO UPDATE SET first_error = excluded.first_error, updated_at = excluded.updated_at
RETURNING chat_id;

-- name: set_flags
INSERT INTO chat_marks (user_id, chat_id, flags, updated_at)
SELECT $user_id, c.id, $flags, $now FROM chats AS c WHERE c.id = $chat_id
ON CONFLICT (user_id, chat_id) DO UPDATE SET flags = excluded.flags, updated_at = excluded.updated_at
RETURNING chat_id;

-- name: add_event
INSERT INTO label_events (id, user_id, chat_id, step_id, kind, value, at)
SELECT $id, $user_id, c.id, $step_id, $kind, $value, $now FROM chats AS c WHERE c.id = $chat_id
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: outcome_of
SELECT outcome FROM applied_ops WHERE id = $id AND user_id = $user_id;

-- name: note_outcome
INSERT INTO applied_ops (id, user_id, outcome, applied_at) VALUES ($id, $user_id, $outcome, $now) ON CONFLICT (id) DO NOTHING;

-- name: my_history
SELECT f.chat_id, c.query, count(*), max(f.updated_at), avg(f.feedback_score) FROM chat_feedback AS f
JOIN chats AS c ON c.id = f.chat_id
WHERE f.user_id = $user_id
GROUP BY f.chat_id, c.query
HAVING $before IS NULL OR max(f.updated_at) < $before
ORDER BY max(f.updated_at) DESC, f.chat_id
LIMIT $limit;

-- name: my_changes
SELECT step_id, feedback_score, scale, comment, given_at, withdrawn FROM feedback_history
WHERE user_id = $user_id AND chat_id = $chat_id ORDER BY given_at, rowid;

-- name: my_feedback
SELECT f.id, f.chat_id, f.step_id, f.user_id, f.feedback_type, f.feedback_score, f.scale, f.comment, f.created_at, f.updated_at
FROM chat_feedback AS f WHERE f.user_id = $user_id ORDER BY f.created_at, f.id;

-- name: my_events
SELECT id, chat_id, step_id, kind, value, at FROM label_events WHERE user_id = $user_id ORDER BY at, id;

-- name: my_marks
SELECT chat_id, first_error, flags, updated_at FROM chat_marks WHERE user_id = $user_id ORDER BY chat_id;

-- name: erase_my_feedback
DELETE FROM chat_feedback WHERE user_id = $user_id;

-- name: erase_my_history
DELETE FROM feedback_history WHERE user_id = $user_id;

-- name: erase_my_marks
DELETE FROM chat_marks WHERE user_id = $user_id;

-- name: erase_my_events
DELETE FROM label_events WHERE user_id = $user_id;

-- name: erase_my_assignments
DELETE FROM assignments WHERE user_id = $user_id;
