-- Statements of the embedded store. Each begins with its name; values are $named.

-- name: add_profile
INSERT INTO profiles (user_id, display_name, origin, created_at)
VALUES ($user_id, $display_name, $origin, $now)
ON CONFLICT (user_id) DO NOTHING;

-- name: profiles
SELECT user_id, display_name, origin, created_at FROM profiles
WHERE ifnull(origin = $origin, TRUE)
ORDER BY display_name, user_id;

-- name: profile
SELECT user_id, display_name, origin, created_at FROM profiles WHERE user_id = $user_id;

-- name: counts
SELECT (SELECT count(*) FROM chats),
       (SELECT count(*) FROM reasoning_steps),
       (SELECT count(*) FROM chat_feedback),
       (SELECT count(DISTINCT user_id) FROM chat_feedback),
       (SELECT max(updated_at) FROM chat_feedback);

-- name: chat
SELECT id, query, response, source, model, external_id, owner_id, created_at FROM chats WHERE id = $chat_id;

-- name: steps_of_chat
SELECT id, chat_id, step_content, step_order FROM reasoning_steps WHERE chat_id = $chat_id ORDER BY step_order;

-- name: search_chats
SELECT id, query, response, source, model, external_id, owner_id, created_at FROM chats
WHERE $text = '' OR instr(lower(query), lower($text)) > 0
ORDER BY created_at, id
LIMIT $limit;

-- name: rate
-- The step id is taken from the chat it is rated under, so the row count tells whether the two belong together.
INSERT INTO chat_feedback (id, chat_id, message_id, step_id, user_id, feedback_type, feedback_score, scale, comment,
                           created_at, updated_at)
SELECT $id, c.id, NULL, $step_id, $user_id, $feedback_type, $feedback_score, $scale, NULL, $now, $now
FROM chats AS c
WHERE c.id = $chat_id
  AND ($step_id IS NULL OR EXISTS (SELECT 1 FROM reasoning_steps AS s WHERE s.id = $step_id AND s.chat_id = c.id))
ON CONFLICT (user_id, chat_id, ifnull(step_id, '')) DO UPDATE
SET feedback_type = excluded.feedback_type, feedback_score = excluded.feedback_score, scale = excluded.scale,
    updated_at = excluded.updated_at
RETURNING id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment, created_at, updated_at;

-- name: comment
UPDATE chat_feedback SET comment = $comment, updated_at = $now
WHERE user_id = $user_id AND chat_id = $chat_id AND step_id IS $step_id
RETURNING id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment, created_at, updated_at;

-- name: withdraw
DELETE FROM chat_feedback WHERE user_id = $user_id AND chat_id = $chat_id AND step_id IS $step_id RETURNING id;

-- name: my_ratings_of_chat
SELECT id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment, created_at, updated_at
FROM chat_feedback WHERE user_id = $user_id AND chat_id = $chat_id;

-- name: mean_scores_of_chat
-- Where a dispute was decided, the decision stands for the mean.
SELECT f.step_id, ifnull((SELECT CAST(d.value AS REAL) FROM decisions AS d
                          WHERE d.chat_id = $chat_id AND d.step_id IS f.step_id AND d.kind = 'score'), avg(f.feedback_score)), count(*)
FROM chat_feedback AS f WHERE f.chat_id = $chat_id GROUP BY f.step_id;

-- name: export_people
SELECT p.user_id, p.origin, p.consent FROM profiles AS p
WHERE EXISTS (SELECT 1 FROM chat_feedback AS f WHERE f.user_id = p.user_id)
   OR EXISTS (SELECT 1 FROM preferences AS f WHERE f.user_id = p.user_id)
   OR EXISTS (SELECT 1 FROM aspect_ratings AS f WHERE f.user_id = p.user_id)
   OR p.user_id IN (SELECT c.owner_id FROM chats AS c)
ORDER BY p.user_id;

-- name: people_who_are_special
SELECT (SELECT count(*) FROM profiles WHERE length(user_id) <> $width), (SELECT count(*) FROM withdrawn);

-- name: my_consent
SELECT consent, consent_at FROM profiles WHERE user_id = $user_id;

-- name: set_consent
UPDATE profiles SET consent = $consent, consent_at = $now WHERE user_id = $user_id;

-- What leaves the store for a snapshot, in the order of its time. Who withdrew their consent is left out, and so are their chats.
-- name: export_chats
SELECT id, query, response, source, model, external_id, owner_id, created_at FROM consented_chats ORDER BY created_at, id;

-- name: export_reasoning_steps
SELECT s.id, s.chat_id, s.step_content, s.step_order, s.created_at
FROM consented_chats AS c CROSS JOIN reasoning_steps AS s ON s.chat_id = c.id ORDER BY c.created_at, c.id, s.step_order;

-- name: export_chat_feedback
SELECT id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment, created_at, updated_at
FROM chat_feedback
WHERE ifnull(updated_at >= $since, TRUE) AND user_id NOT IN (SELECT user_id FROM withdrawn)
  AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)
ORDER BY created_at, id;

-- The same in ranges of (time, id): from the first until before the last.
-- name: chats_between
SELECT id, query, response, source, model, external_id, owner_id, created_at
FROM consented_chats WHERE (created_at, id) >= ($from_at, $from_id) AND (created_at, id) < ($to_at, $to_id) ORDER BY created_at, id;

-- name: reasoning_steps_between
SELECT s.id, s.chat_id, s.step_content, s.step_order, s.created_at
FROM consented_chats AS c CROSS JOIN reasoning_steps AS s ON s.chat_id = c.id
WHERE (c.created_at, c.id) >= ($from_at, $from_id) AND (c.created_at, c.id) < ($to_at, $to_id) ORDER BY c.created_at, c.id, s.step_order;

-- name: chat_feedback_between
SELECT id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment, created_at, updated_at
FROM chat_feedback INDEXED BY chat_feedback_created
WHERE (created_at, id) >= ($from_at, $from_id) AND (created_at, id) < ($to_at, $to_id)
  AND ($since IS NULL OR updated_at >= $since)
  AND ($nobody_withdrew OR (user_id NOT IN (SELECT user_id FROM withdrawn) AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)))
ORDER BY created_at, id;

-- name: chats_bound
SELECT created_at, id FROM consented_chats WHERE (created_at, id) >= ($from_at, $from_id) AND created_at < $month
ORDER BY created_at, id LIMIT 1 OFFSET $skip;

-- name: chat_feedback_bound
SELECT created_at, id FROM chat_feedback
WHERE (created_at, id) >= ($from_at, $from_id) AND created_at < $month
  AND ($since IS NULL OR updated_at >= $since)
  AND ($nobody_withdrew OR (user_id NOT IN (SELECT user_id FROM withdrawn) AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)))
ORDER BY created_at, id LIMIT 1 OFFSET $skip;

-- name: reasoning_steps_of_chats
SELECT id, chat_id, step_content, step_order, created_at FROM reasoning_steps
WHERE chat_id IN (SELECT value FROM json_each($chat_ids)) ORDER BY chat_id, step_order;

-- name: chat_feedback_of_chats
SELECT id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment, created_at, updated_at
FROM chat_feedback
WHERE chat_id IN (SELECT value FROM json_each($chat_ids)) AND user_id NOT IN (SELECT user_id FROM withdrawn)
ORDER BY chat_id, step_id, user_id;
