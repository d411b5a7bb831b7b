-- Statements for what chat applications send. Each begins with its name; values are $named.

-- name: applications
SELECT id, name, per_minute, consent_version, consent_words, created_at, revoked_at, keep_days FROM applications ORDER BY created_at, id;

-- name: application_of_token
SELECT id, name, per_minute, consent_version, consent_words, created_at, revoked_at, keep_days FROM applications
WHERE token_sha256 = $token_sha256 AND revoked_at IS NULL;

-- name: application
SELECT id, name, per_minute, consent_version, consent_words, created_at, revoked_at, keep_days FROM applications WHERE id = $id;

-- name: add_application
INSERT INTO applications (id, name, token_sha256, per_minute, consent_version, consent_words, keep_days, created_at)
VALUES ($id, $name, $token_sha256, $per_minute, $consent_version, $consent_words, $keep_days, $now);

-- name: change_application
UPDATE applications SET token_sha256 = ifnull($token_sha256, token_sha256), per_minute = $per_minute,
       consent_version = $consent_version, consent_words = $consent_words, keep_days = $keep_days,
       revoked_at = $revoked_at
WHERE id = $id RETURNING id;

-- name: add_visitor_profile
INSERT INTO profiles (user_id, display_name, origin, created_at) VALUES ($user_id, $name, 'application', $now)
ON CONFLICT (user_id) DO NOTHING;

-- name: add_visitor
INSERT INTO visitors (user_id, application_id) VALUES ($user_id, $application_id) ON CONFLICT (user_id) DO NOTHING;

-- name: answered
SELECT fingerprint, answer FROM received WHERE application_id = $application_id AND user_id = $user_id AND id = $id;

-- name: note_received
INSERT INTO received (application_id, user_id, id, fingerprint, about, said_at, answer, at)
VALUES ($application_id, $user_id, $id, $fingerprint, $about, $said_at, $answer, $now);

-- name: note_removed
INSERT INTO removed (application_id, month, kind, count) VALUES ($application_id, substr($now, 1, 7), $kind, $count)
ON CONFLICT (application_id, month, kind) DO UPDATE SET count = removed.count + excluded.count;

-- name: removed
SELECT a.name, r.month, r.kind, r.count FROM removed AS r JOIN applications AS a ON a.id = r.application_id
ORDER BY a.name, r.month, r.kind;

-- name: is_spent
SELECT 1 FROM spent WHERE id = $id;

-- name: spend
INSERT INTO spent (id) VALUES ($id) ON CONFLICT (id) DO NOTHING;

-- name: my_requests
SELECT application_id, id FROM received WHERE user_id = $user_id;

-- name: newer_word
SELECT 1 FROM received WHERE user_id = $user_id AND about = $about AND ifnull(said_at, at) > $said_at LIMIT 1;

-- name: add_chat
INSERT INTO chats (id, owner_id, query, response, source, model, external_id, created_at, application_id)
VALUES ($id, $owner_id, $query, $response, $source, $model, $external_id, $created_at, $application_id);

-- name: add_step
INSERT INTO reasoning_steps (id, chat_id, step_content, step_order, created_at) VALUES ($id, $chat_id, $content, $order, $now);

-- name: rated_chat
-- One that this person may judge: sent by the application, and theirs or nobody's.
SELECT id FROM chats WHERE id = $chat_id AND application_id = $application_id AND (owner_id IS NULL OR owner_id = $user_id);

-- name: step_of
SELECT id FROM reasoning_steps WHERE chat_id = $chat_id AND (id = $step_id OR step_order = $step_order);

-- name: add_event
INSERT INTO label_events (id, user_id, chat_id, step_id, kind, value, at)
VALUES ($id, $user_id, $chat_id, $step_id, $kind, $value, $at) ON CONFLICT (id) DO NOTHING;

-- name: add_consent
INSERT INTO consents (user_id, version, consent, at) VALUES ($user_id, $version, $consent, $now);

-- name: last_consent
SELECT version, consent, at FROM consents WHERE user_id = $user_id ORDER BY at DESC, rowid DESC LIMIT 1;

-- name: my_consents
SELECT version, consent, at FROM consents WHERE user_id = $user_id ORDER BY at, rowid;

-- name: is_known
SELECT 1 FROM profiles WHERE user_id = $user_id;

-- name: steps_of
SELECT id, step_order, step_content FROM reasoning_steps WHERE chat_id = $chat_id ORDER BY step_order;

-- name: token_of
SELECT token_sha256 FROM applications WHERE id = $id;

-- name: my_changes_of_mind
SELECT chat_id, step_id, feedback_score, scale, comment, given_at, withdrawn FROM feedback_history
WHERE user_id = $user_id ORDER BY given_at, rowid;

-- name: my_received
SELECT id, at FROM received WHERE user_id = $user_id ORDER BY at, id;

-- name: my_chats
SELECT id, query, response, source, model, external_id, created_at FROM chats WHERE owner_id = $user_id ORDER BY created_at, id;

-- name: my_served
SELECT s.chat_id, s.checkpoint_id, s.refused, s.latency_ms FROM served_chats AS s JOIN chats AS c ON c.id = s.chat_id
WHERE c.owner_id = $user_id ORDER BY s.number;

-- name: my_steps
SELECT s.id, s.chat_id, s.step_content, s.step_order FROM reasoning_steps AS s JOIN chats AS c ON c.id = s.chat_id
WHERE c.owner_id = $user_id ORDER BY c.created_at, c.id, s.step_order;

-- name: expired
-- Chats of an application from before a time, and what was made of them here: see chats_to_erase.
SELECT id, query FROM chats WHERE application_id = $application_id AND created_at < $before
UNION
SELECT m.id, m.query FROM chats AS c JOIN made_chats AS m ON m.query = c.query AND m.created_at >= c.created_at
WHERE c.application_id = $application_id AND c.created_at < $before
  AND NOT EXISTS (SELECT 1 FROM asked_chats AS o WHERE o.query = m.query
                  AND NOT ifnull(o.application_id = $application_id AND o.created_at < $before, FALSE));

-- name: requests_about
SELECT application_id, user_id, id FROM received WHERE substr(about, 1, 36) IN (SELECT value FROM json_each($chat_ids));

-- name: drop_requests_about
DELETE FROM received WHERE substr(about, 1, 36) IN (SELECT value FROM json_each($chat_ids));

-- name: chats_to_erase
-- A person's own, and what was made of them here: answers that policies wrote to their questions, rewritten steps, branches. A question
-- that somebody else asked as well names nobody, and what was made of it stays.
SELECT id, query FROM chats WHERE owner_id = $user_id
UNION
SELECT m.id, m.query FROM chats AS c JOIN made_chats AS m ON m.query = c.query AND m.created_at >= c.created_at
WHERE c.owner_id = $user_id
  AND NOT EXISTS (SELECT 1 FROM asked_chats AS o WHERE o.query = m.query AND o.owner_id IS NOT $user_id);

-- name: erase_chats
DELETE FROM chats WHERE id IN (SELECT value FROM json_each($chat_ids));

-- name: erase_received
DELETE FROM received WHERE user_id = $user_id;

-- name: erase_profile
DELETE FROM profiles WHERE user_id = $user_id AND origin = 'application';

-- name: note_erasure
INSERT INTO erasures (id, pseudonym, at, what) VALUES ($id, $pseudonym, $now, $what)
ON CONFLICT (id) DO UPDATE SET what = excluded.what;

-- name: unfinished_erasures
SELECT what FROM erasures WHERE pseudonym = $pseudonym AND NOT json_extract(what, '$.finished');

-- name: finish_erasures
UPDATE erasures SET what = json_remove(json_set(what, '$.finished', json('true')), '$.chats')
WHERE pseudonym = $pseudonym AND NOT json_extract(what, '$.finished');

-- name: erasures
SELECT id, pseudonym, at, what FROM erasures WHERE ifnull(pseudonym = $pseudonym, TRUE) ORDER BY at, id;
