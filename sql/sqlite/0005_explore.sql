-- What exploring needs: consent, queues made of a list of chats, and an order to export ratings in.

ALTER TABLE profiles ADD COLUMN consent TEXT CHECK (consent IN ('given', 'withdrawn')); -- to training and analysis; null: never asked
ALTER TABLE profiles ADD COLUMN consent_at TEXT CHECK (consent_at GLOB '????-??-??T??:??:??.??????Z');

CREATE VIEW withdrawn AS SELECT user_id FROM profiles WHERE consent = 'withdrawn';
CREATE VIEW withdrawn_chats AS SELECT id AS chat_id FROM chats WHERE owner_id IN (SELECT user_id FROM withdrawn);
CREATE VIEW consented_chats AS SELECT * FROM chats WHERE owner_id IS NULL OR owner_id NOT IN (SELECT user_id FROM withdrawn);

ALTER TABLE queues ADD COLUMN listed INTEGER NOT NULL DEFAULT 0 CHECK (listed IN (0, 1)); -- 1: only the chats in queue_chats

CREATE TABLE queue_chats ( -- the chats of a queue that somebody made from an answer
    queue_id TEXT NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    chat_id  TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    steps    TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(steps)), -- the orders of the steps that are asked about; []: the whole chat
    PRIMARY KEY (queue_id, chat_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_chats_chat ON queue_chats (chat_id);

CREATE INDEX chat_feedback_created ON chat_feedback (created_at, id); -- snapshots read ratings in this order

DROP VIEW queue_items;
CREATE VIEW queue_items AS
SELECT q.id AS queue_id, c.id AS chat_id, NULL AS other_id, c.created_at
FROM queues AS q, chats AS c
WHERE q.task = 'rate' AND iif(q.listed, EXISTS (SELECT 1 FROM queue_chats AS l WHERE l.queue_id = q.id AND l.chat_id = c.id),
                              iif(q.source IS NULL, c.source <> 'rewrite', c.source = q.source))
  AND (q.words IS NULL OR instr(lower(c.query), lower(q.words)) > 0)
UNION ALL
SELECT q.id, a.id, b.id, max(a.created_at, b.created_at)
FROM queues AS q, chats AS a JOIN chats AS b ON b.query = a.query AND a.id < b.id
WHERE q.task = 'choose' AND a.response <> b.response
  AND iif(q.source IS NULL, a.source <> 'rewrite' AND b.source <> 'rewrite', a.source = q.source AND b.source = q.source)
  AND (NOT q.listed OR (EXISTS (SELECT 1 FROM queue_chats AS l WHERE l.queue_id = q.id AND l.chat_id = a.id)
                        AND EXISTS (SELECT 1 FROM queue_chats AS l WHERE l.queue_id = q.id AND l.chat_id = b.id)))
  AND (q.words IS NULL OR instr(lower(a.query), lower(q.words)) > 0);
