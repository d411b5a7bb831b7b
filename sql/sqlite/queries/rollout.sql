-- Statements for roll-outs. Each begins with its name; values are $named.

-- name: model_events
SELECT number, at, who, act, checkpoint_id, reason, state, detail FROM model_log WHERE kind = $kind ORDER BY number;

-- name: last_model_event
SELECT number, at, who, act, checkpoint_id, reason, state, detail FROM model_log WHERE kind = $kind ORDER BY number DESC LIMIT 1;

-- name: add_model_event
INSERT INTO model_log (kind, number, at, who, act, checkpoint_id, reason, state, detail)
VALUES ($kind, $number, $at, $who, $act, $checkpoint_id, $reason, $state, $detail);

-- name: note_served
INSERT INTO served_chats (chat_id, at, checkpoint_id, begun, refused, latency_ms)
VALUES ($chat_id, $now, $checkpoint_id, $begun, $refused, $latency_ms)
ON CONFLICT (chat_id) DO NOTHING;

-- name: served
-- Rated answers stand where their first rating came in, others where they did.
SELECT checkpoint_id, owner_id, rating, characters, refused, latency_ms FROM (
    SELECT s.number, s.checkpoint_id, c.owner_id, avg(f.feedback_score) AS rating, length(c.response) AS characters, s.refused,
           s.latency_ms, ifnull(min(f.created_at), s.at) AS at
    FROM served_chats AS s
    JOIN chats AS c ON c.id = s.chat_id
    LEFT JOIN chat_feedback AS f ON f.chat_id = s.chat_id AND f.user_id = c.owner_id
    WHERE s.begun = $begun AND s.checkpoint_id IN ($canary, $control) AND c.owner_id IS NOT NULL
    GROUP BY s.number
    UNION ALL
    SELECT number, checkpoint_id, 'gone ' || number, rating, characters, refused, latency_ms, at FROM served_before
    WHERE begun = $begun AND checkpoint_id IN ($canary, $control)
)
ORDER BY at, number;

-- name: keep_figures
-- Before chats are deleted because they were kept for their time.
INSERT INTO served_before (number, at, checkpoint_id, begun, rating, characters, refused, latency_ms)
SELECT s.number, ifnull(min(f.created_at), s.at), s.checkpoint_id, s.begun, avg(f.feedback_score), length(c.response), s.refused,
       s.latency_ms
FROM served_chats AS s
JOIN chats AS c ON c.id = s.chat_id
LEFT JOIN chat_feedback AS f ON f.chat_id = s.chat_id AND f.user_id = c.owner_id
WHERE s.chat_id IN (SELECT value FROM json_each($chat_ids)) AND s.begun IS NOT NULL AND c.owner_id IS NOT NULL
GROUP BY s.number;
