-- Statements of preferences, aspects, rewrites, known answers, disputes and hints. Each begins with its name; values are $named.

-- name: rubric
SELECT queue_id, version, aspects, created_at FROM rubrics WHERE queue_id = $queue_id ORDER BY version DESC LIMIT 1;

-- name: add_rubric
INSERT INTO rubrics (queue_id, version, aspects, created_at)
SELECT q.id, 1 + (SELECT ifnull(max(version), 0) FROM rubrics WHERE queue_id = q.id), $aspects, $now FROM queues AS q
WHERE q.id = $queue_id
RETURNING queue_id, version, aspects, created_at;

-- name: rate_aspect
INSERT INTO aspect_ratings (id, chat_id, step_id, user_id, queue_id, rubric_version, aspect, score, created_at, updated_at)
SELECT $id, c.id, $step_id, $user_id, r.queue_id, r.version, $aspect, $score, $now, $now
FROM chats AS c, rubrics AS r
WHERE c.id = $chat_id AND r.queue_id = $queue_id AND r.version = $version
  AND EXISTS (SELECT 1 FROM json_each(r.aspects) AS a WHERE a.value ->> 'key' = $aspect)
  AND ($step_id IS NULL OR EXISTS (SELECT 1 FROM reasoning_steps AS s WHERE s.id = $step_id AND s.chat_id = c.id))
ON CONFLICT (user_id, chat_id, ifnull(step_id, ''), aspect) DO UPDATE
SET score = excluded.score, queue_id = excluded.queue_id, rubric_version = excluded.rubric_version, updated_at = excluded.updated_at
RETURNING id;

-- name: withdraw_aspect
DELETE FROM aspect_ratings WHERE user_id = $user_id AND chat_id = $chat_id AND step_id IS $step_id AND aspect = $aspect;

-- name: my_aspects_of_chat
SELECT step_id, aspect, score FROM aspect_ratings WHERE user_id = $user_id AND chat_id = $chat_id;

-- name: prefer
INSERT INTO preferences (id, chat_id, other_id, step_order, aspect, user_id, verdict, strength, shown_left, comment, created_at, updated_at)
SELECT $id, a.id, b.id, $step_order, $aspect, $user_id, $verdict, $strength, $shown_left, $comment, $now, $now
FROM chats AS a, chats AS b
WHERE a.id = $chat_id AND b.id = $other_id AND a.query = b.query AND a.id < b.id
ON CONFLICT (user_id, chat_id, other_id, ifnull(step_order, 0), aspect) DO UPDATE
SET verdict = excluded.verdict, strength = excluded.strength, shown_left = excluded.shown_left, comment = excluded.comment,
    updated_at = excluded.updated_at
RETURNING id;

-- name: withdraw_preference
DELETE FROM preferences
WHERE user_id = $user_id AND chat_id = $chat_id AND other_id = $other_id AND step_order IS $step_order AND aspect = $aspect;

-- name: my_preferences_of_pair
SELECT step_order, aspect, verdict, strength, comment FROM preferences
WHERE user_id = $user_id AND chat_id = $chat_id AND other_id = $other_id;

-- name: my_rewrites_of_chat
SELECT r.step_id, r.text FROM rewrites AS r JOIN reasoning_steps AS s ON s.id = r.step_id
WHERE r.user_id = $user_id AND s.chat_id = $chat_id;

-- name: my_rewrite
SELECT rewrite_id, text FROM rewrites WHERE user_id = $user_id AND step_id = $step_id;

-- name: judged_by_others
SELECT EXISTS (SELECT 1 FROM chat_feedback WHERE chat_id = $chat_id AND user_id <> $user_id)
    OR EXISTS (SELECT 1 FROM preferences WHERE $chat_id IN (chat_id, other_id) AND user_id <> $user_id)
    OR EXISTS (SELECT 1 FROM aspect_ratings WHERE chat_id = $chat_id AND user_id <> $user_id)
    OR EXISTS (SELECT 1 FROM chat_marks WHERE chat_id = $chat_id AND user_id <> $user_id)
    OR EXISTS (SELECT 1 FROM rewrites AS r JOIN reasoning_steps AS s ON s.id = r.step_id WHERE s.chat_id = $chat_id AND r.user_id <> $user_id)
    OR EXISTS (SELECT 1 FROM gold WHERE $chat_id IN (chat_id, other_id))
    OR EXISTS (SELECT 1 FROM decisions WHERE $chat_id IN (chat_id, other_id));

-- name: delete_chat
DELETE FROM chats WHERE id = $chat_id;

-- name: delete_my_rewrite
DELETE FROM rewrites WHERE user_id = $user_id AND step_id = $step_id;

-- name: add_rewritten_chat
INSERT INTO chats (id, owner_id, query, response, source, model, external_id, created_at)
SELECT $id, $user_id, c.query, $response, 'rewrite', NULL, NULL, $now FROM chats AS c WHERE c.id = $chat_id
RETURNING id;

-- name: add_step
INSERT INTO reasoning_steps (id, chat_id, step_content, step_order, created_at) VALUES ($id, $chat_id, $text, $step_order, $now);

-- name: note_rewrite
INSERT INTO rewrites (user_id, step_id, rewrite_id, text, updated_at) VALUES ($user_id, $step_id, $rewrite_id, $text, $now);

-- name: gold_of
SELECT answer, explanation FROM gold WHERE chat_id = $chat_id AND other_id IS $other_id;

-- name: all_gold
SELECT g.id, g.chat_id, g.other_id, c.query, c.source, g.answer, g.explanation, g.created_at,
       (SELECT count(*) FROM gold_results AS r WHERE r.chat_id = g.chat_id AND r.other_id IS g.other_id),
       (SELECT avg(1.0 * matched / asked) FROM gold_results AS r WHERE r.chat_id = g.chat_id AND r.other_id IS g.other_id)
FROM gold AS g JOIN chats AS c ON c.id = g.chat_id
ORDER BY g.created_at, g.id;

-- name: save_gold
INSERT INTO gold (id, chat_id, other_id, answer, explanation, created_by, created_at)
SELECT $id, c.id, $other_id, $answer, $explanation, $user_id, $now FROM chats AS c
WHERE c.id = $chat_id AND ($other_id IS NULL OR EXISTS (SELECT 1 FROM chats AS o WHERE o.id = $other_id AND o.query = c.query))
ON CONFLICT (chat_id, ifnull(other_id, '')) DO UPDATE
SET answer = excluded.answer, explanation = excluded.explanation, created_by = excluded.created_by
RETURNING id;

-- name: remove_gold
DELETE FROM gold WHERE id = $id RETURNING id;

-- name: note_gold_result
INSERT INTO gold_results (queue_id, chat_id, other_id, user_id, asked, matched, detail, at)
VALUES ($queue_id, $chat_id, $other_id, $user_id, $asked, $matched, $detail, $now)
ON CONFLICT DO NOTHING;

-- name: my_gold_result
SELECT asked, matched, detail FROM gold_results
WHERE user_id = $user_id AND queue_id = $queue_id AND chat_id = $chat_id AND other_id IS $other_id AND counts = 1;

-- name: gold_is_asked
SELECT 1 FROM queues WHERE id = $queue_id AND (gold_rate > 0 OR screening > 0);

-- name: screenings
-- Each person's first known answers in a queue.
SELECT user_id, display_name, count(*), avg(share) FROM (
    SELECT r.user_id, p.display_name, 1.0 * r.matched / r.asked AS share,
           row_number() OVER (PARTITION BY r.user_id ORDER BY r.at, r.rowid) AS n
    FROM gold_results AS r JOIN profiles AS p ON p.user_id = r.user_id WHERE r.queue_id = $queue_id AND r.counts = 1)
WHERE n <= $screening
GROUP BY user_id, display_name ORDER BY display_name, user_id;

-- name: forget_screening
UPDATE gold_results SET counts = 0 WHERE queue_id = $queue_id AND user_id = $person;

-- name: reopen_gold
DELETE FROM assignments AS a
WHERE a.queue_id = $queue_id AND a.user_id = $person
  AND EXISTS (SELECT 1 FROM gold AS g WHERE g.chat_id = a.chat_id AND g.other_id IS a.other_id);

-- name: submitted
SELECT 1 FROM assignments
WHERE queue_id = $queue_id AND chat_id = $chat_id AND other_id IS $other_id AND user_id = $user_id AND status = 'submitted';

-- name: set_hints
INSERT INTO hints (queue_id, chat_id, checkpoint_id, rewards) VALUES ($queue_id, $chat_id, $checkpoint_id, $rewards)
ON CONFLICT (queue_id, chat_id) DO UPDATE SET checkpoint_id = excluded.checkpoint_id, rewards = excluded.rewards;

-- name: drop_hints
DELETE FROM hints WHERE queue_id = $queue_id;

-- name: hint
SELECT h.checkpoint_id, h.rewards FROM hints AS h JOIN queues AS q ON q.id = h.queue_id
WHERE h.queue_id = $queue_id AND h.chat_id = $chat_id AND q.hint_checkpoint = h.checkpoint_id;

-- name: note_hint
INSERT INTO hints_shown (queue_id, chat_id, other_id, step_id, user_id, checkpoint_id, reward, said, at)
VALUES ($queue_id, $chat_id, $other_id, $step_id, $user_id, $checkpoint_id, $reward, $said, $now)
ON CONFLICT (user_id, queue_id, chat_id, ifnull(other_id, ''), ifnull(step_id, '')) DO NOTHING;

-- name: disputes
-- Chats and pairs on which people who judged the same thing differ by two stars or more, on the first error, or on which is better.
WITH scored AS (
    SELECT chat_id, max(spread) AS spread, max(n) AS raters, sum(
        spread >= 2 AND NOT EXISTS (SELECT 1 FROM decisions AS d
                                    WHERE d.chat_id = p.chat_id AND d.step_id IS p.step_id AND d.kind = 'score')) AS open
    FROM (
        SELECT chat_id, step_id, max(feedback_score) - min(feedback_score) AS spread, count(*) AS n
        FROM chat_feedback GROUP BY chat_id, step_id) AS p
    GROUP BY chat_id
),
judged AS ( -- a person's first error: what they marked, else the first step they found bad, else none (0)
    SELECT f.chat_id, f.user_id, ifnull(
        (SELECT s.step_order FROM chat_marks AS m JOIN reasoning_steps AS s ON s.id = m.first_error
         WHERE m.user_id = f.user_id AND m.chat_id = f.chat_id),
        min(iif(f.feedback_score <= 2, s.step_order, NULL))) AS at
    FROM (SELECT chat_id, user_id, step_id, feedback_score FROM chat_feedback WHERE step_id IS NOT NULL
          UNION ALL
          SELECT chat_id, user_id, first_error, NULL FROM chat_marks WHERE first_error IS NOT NULL) AS f
    JOIN reasoning_steps AS s ON s.id = f.step_id
    GROUP BY f.chat_id, f.user_id
),
stops AS (
    SELECT chat_id, count(DISTINCT ifnull(at, 0)) AS stops, count(*) AS raters,
           count(DISTINCT ifnull(at, 0)) > 1 AND NOT EXISTS (
               SELECT 1 FROM decisions AS d WHERE d.chat_id = judged.chat_id AND d.kind = 'first_error') AS open
    FROM judged GROUP BY chat_id
),
chosen AS (
    SELECT chat_id, other_id, count(DISTINCT verdict) AS verdicts, count(*) AS raters FROM preferences
    WHERE step_order IS NULL AND aspect = '' GROUP BY chat_id, other_id HAVING count(DISTINCT verdict) > 1
),
found AS (
    SELECT chat_id, NULL AS other_id, max(raters) AS raters, max(spread) AS spread, max(stops) AS stops, 0 AS verdicts,
           sum(open) AS open
    FROM (SELECT chat_id, raters, spread, 0 AS stops, open FROM scored UNION ALL SELECT chat_id, raters, 0, stops, open FROM stops)
    GROUP BY chat_id HAVING max(spread) >= 2 OR max(stops) > 1
    UNION ALL
    SELECT chat_id, other_id, raters, 0, 0, verdicts, NOT EXISTS (
        SELECT 1 FROM decisions AS d WHERE d.chat_id = chosen.chat_id AND d.other_id = chosen.other_id AND d.kind = 'preference')
    FROM chosen
)
SELECT f.chat_id, f.other_id, c.query, f.raters, f.spread, f.stops, f.verdicts,
       (SELECT count(*) FROM decisions AS d WHERE d.chat_id = f.chat_id AND d.other_id IS f.other_id) AS decided, f.open
FROM found AS f JOIN chats AS c ON c.id = f.chat_id
ORDER BY f.open = 0, f.verdicts DESC, f.stops > 1 DESC, f.spread DESC, f.raters DESC, f.chat_id, f.other_id
LIMIT $limit;

-- name: judgements_of_chat
SELECT user_id, step_id, 'score' AS kind, feedback_score AS value, comment, updated_at FROM chat_feedback WHERE chat_id = $chat_id
UNION ALL
SELECT user_id, step_id, 'aspect:' || aspect, score, NULL, updated_at FROM aspect_ratings WHERE chat_id = $chat_id
UNION ALL
SELECT user_id, first_error, 'first_error', '', NULL, updated_at FROM chat_marks WHERE chat_id = $chat_id AND first_error IS NOT NULL
ORDER BY 1, 3, 6;

-- name: judgements_of_pair
SELECT user_id, step_order, aspect, verdict, strength, comment, updated_at FROM preferences
WHERE chat_id = $chat_id AND other_id = $other_id ORDER BY user_id, step_order, aspect;

-- name: decide
INSERT INTO decisions (id, chat_id, other_id, step_id, kind, value, reason, decided_by, decided_at)
SELECT $id, c.id, $other_id, $step_id, $kind, $value, $reason, $user_id, $now FROM chats AS c
WHERE c.id = $chat_id
  AND ($other_id IS NULL OR EXISTS (SELECT 1 FROM chats AS o WHERE o.id = $other_id AND o.query = c.query))
  AND ($kind <> 'first_error' OR $value = ''
       OR EXISTS (SELECT 1 FROM reasoning_steps AS s WHERE s.id = $value AND s.chat_id = c.id))
  AND ($step_id IS NULL OR EXISTS (SELECT 1 FROM reasoning_steps AS s WHERE s.id = $step_id AND s.chat_id = c.id))
ON CONFLICT (chat_id, ifnull(other_id, ''), ifnull(step_id, ''), kind) DO UPDATE
SET value = excluded.value, reason = excluded.reason, decided_by = excluded.decided_by, decided_at = excluded.decided_at
RETURNING id;

-- name: undecide
DELETE FROM decisions
WHERE chat_id = $chat_id AND other_id IS $other_id AND step_id IS $step_id AND kind = $kind RETURNING id;

-- name: decisions_of
SELECT id, chat_id, other_id, step_id, kind, value, reason, decided_at FROM decisions
WHERE chat_id = $chat_id AND other_id IS $other_id ORDER BY decided_at, id;

-- name: my_preferences
SELECT id, chat_id, other_id, step_order, aspect, verdict, strength, comment, created_at, updated_at
FROM preferences WHERE user_id = $user_id ORDER BY created_at, id;

-- name: my_chosen
SELECT p.chat_id, p.other_id, c.query, max(iif(p.step_order IS NULL AND p.aspect = '', p.verdict, NULL)), max(p.updated_at)
FROM preferences AS p JOIN chats AS c ON c.id = p.chat_id
WHERE p.user_id = $user_id
GROUP BY p.chat_id, p.other_id, c.query
ORDER BY max(p.updated_at) DESC, p.chat_id, p.other_id
LIMIT $limit;

-- name: my_aspect_ratings
SELECT id, chat_id, step_id, queue_id, rubric_version, aspect, score, created_at, updated_at
FROM aspect_ratings WHERE user_id = $user_id ORDER BY created_at, id;

-- name: my_rewrites
SELECT step_id, rewrite_id, text, updated_at FROM rewrites WHERE user_id = $user_id ORDER BY updated_at, step_id;

-- name: my_gold_results
SELECT queue_id, chat_id, other_id, asked, matched, at FROM gold_results WHERE user_id = $user_id ORDER BY at, chat_id;

-- name: erase_my_rewritten_chats
DELETE FROM chats WHERE source = 'rewrite' AND owner_id = $user_id;

-- name: erase_my_preferences
DELETE FROM preferences WHERE user_id = $user_id;

-- name: erase_my_aspect_ratings
DELETE FROM aspect_ratings WHERE user_id = $user_id;

-- name: erase_my_gold_results
-- But that a screening was failed: otherwise one would be asked the same again, knowing the answers.
DELETE FROM gold_results
WHERE user_id = $user_id AND queue_id NOT IN (
    SELECT q.id FROM queues AS q WHERE q.screening > 0
      AND (SELECT count(*) FROM gold_results AS r WHERE r.queue_id = q.id AND r.user_id = $user_id AND r.counts = 1) >= q.screening
      AND (SELECT avg(1.0 * r.matched / r.asked) FROM gold_results AS r
           WHERE r.queue_id = q.id AND r.user_id = $user_id AND r.counts = 1) < q.screening_pass);

-- name: erase_my_gold_details
UPDATE gold_results SET detail = '[]' WHERE user_id = $user_id;

-- name: erase_my_hints
DELETE FROM hints_shown WHERE user_id = $user_id;

-- name: export_chat_marks
SELECT chat_id, user_id, first_error, flags, updated_at FROM chat_marks
WHERE user_id NOT IN (SELECT user_id FROM withdrawn) AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)
ORDER BY updated_at, chat_id, user_id;

-- name: export_label_events
SELECT id, chat_id, step_id, user_id, kind, value, at FROM label_events
WHERE user_id NOT IN (SELECT user_id FROM withdrawn) AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)
ORDER BY at, id;

-- name: export_preferences
SELECT id, chat_id, other_id, step_order, aspect, user_id, verdict, strength, shown_left, comment, created_at, updated_at
FROM preferences
WHERE user_id NOT IN (SELECT user_id FROM withdrawn) AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)
  AND ifnull(other_id, '') NOT IN (SELECT chat_id FROM withdrawn_chats)
ORDER BY created_at, id;

-- name: export_aspect_ratings
SELECT id, chat_id, step_id, user_id, queue_id, rubric_version, aspect, score, created_at, updated_at FROM aspect_ratings
WHERE user_id NOT IN (SELECT user_id FROM withdrawn) AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)
ORDER BY created_at, id;

-- name: export_assignments
SELECT queue_id, chat_id, other_id, user_id, status, claimed_at, finished_at FROM assignments
WHERE status <> 'open' AND user_id NOT IN (SELECT user_id FROM withdrawn) AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)
  AND ifnull(other_id, '') NOT IN (SELECT chat_id FROM withdrawn_chats)
ORDER BY claimed_at, queue_id, chat_id, ifnull(other_id, ''), user_id;

-- name: export_queues
SELECT id, name, task FROM queues ORDER BY id;

-- name: export_gold_results
SELECT queue_id, chat_id, other_id, user_id, asked, matched, at FROM gold_results
WHERE counts = 1 AND user_id NOT IN (SELECT user_id FROM withdrawn) AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)
  AND ifnull(other_id, '') NOT IN (SELECT chat_id FROM withdrawn_chats)
ORDER BY at, queue_id, chat_id, ifnull(other_id, ''), user_id;

-- name: export_decisions
SELECT id, chat_id, other_id, step_id, kind, value, reason, decided_by, decided_at FROM decisions
WHERE chat_id NOT IN (SELECT chat_id FROM withdrawn_chats) AND ifnull(other_id, '') NOT IN (SELECT chat_id FROM withdrawn_chats)
ORDER BY decided_at, id;

-- name: export_hints_shown
SELECT queue_id, chat_id, other_id, step_id, user_id, checkpoint_id, reward, said, at FROM hints_shown
WHERE user_id NOT IN (SELECT user_id FROM withdrawn) AND chat_id NOT IN (SELECT chat_id FROM withdrawn_chats)
  AND ifnull(other_id, '') NOT IN (SELECT chat_id FROM withdrawn_chats)
ORDER BY at, queue_id, chat_id, ifnull(other_id, ''), ifnull(step_id, ''), user_id;
