-- Chats, their reasoning steps, and people's judgement of them.
-- Times are UTC text with microseconds and a Z. Identifiers are made by the client.

CREATE TABLE profiles (
    user_id      TEXT PRIMARY KEY,
    display_name TEXT NOT NULL CHECK (trim(display_name) <> ''),
    origin       TEXT NOT NULL CHECK (origin IN ('local', 'imported', 'demo')),
    created_at   TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z')
) STRICT;

CREATE TABLE chats (
    id          TEXT PRIMARY KEY,
    owner_id    TEXT REFERENCES profiles (user_id) ON DELETE SET NULL,
    query       TEXT NOT NULL CHECK (trim(query) <> ''),
    response    TEXT NOT NULL,
    source      TEXT NOT NULL,
    model       TEXT,
    external_id TEXT,
    created_at  TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z')
) STRICT;

CREATE INDEX chats_created ON chats (created_at, id);

CREATE TABLE reasoning_steps (
    id           TEXT PRIMARY KEY,
    chat_id      TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    step_content TEXT NOT NULL CHECK (step_content <> ''),
    step_order   INTEGER NOT NULL CHECK (step_order >= 1),
    created_at   TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    UNIQUE (chat_id, step_order),
    UNIQUE (chat_id, id) -- what chat_feedback points at, so that a step can be rated under its own chat only
) STRICT;

CREATE TABLE chat_feedback (
    id             TEXT PRIMARY KEY,
    chat_id        TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    message_id     TEXT,
    step_id        TEXT, -- null: the whole answer
    user_id        TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    feedback_type  TEXT NOT NULL,
    feedback_score INTEGER NOT NULL CHECK (feedback_score BETWEEN 1 AND 5),
    scale          TEXT NOT NULL CHECK (scale IN ('stars', 'thumbs')),
    comment        TEXT CHECK (length(comment) <= 8000),
    created_at     TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    updated_at     TEXT NOT NULL CHECK (updated_at GLOB '????-??-??T??:??:??.??????Z'),
    -- score and type cannot contradict each other
    CHECK (feedback_type = CASE WHEN feedback_score >= 4 THEN 'positive'
                                WHEN feedback_score <= 2 THEN 'negative'
                                ELSE 'neutral' END),
    FOREIGN KEY (chat_id, step_id) REFERENCES reasoning_steps (chat_id, id) ON DELETE CASCADE
) STRICT;

-- one person judges one thing once; changing one's mind updates the row
CREATE UNIQUE INDEX chat_feedback_once ON chat_feedback (user_id, chat_id, ifnull(step_id, ''));
CREATE INDEX chat_feedback_chat ON chat_feedback (chat_id, step_id);
