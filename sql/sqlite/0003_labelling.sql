-- What to label next and who has it; first errors and flags; every change of mind; what the label page sends, once each.

CREATE TABLE queues (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE CHECK (trim(name) <> ''),
    guidelines    TEXT NOT NULL DEFAULT '',
    item_order    TEXT NOT NULL CHECK (item_order IN ('oldest', 'random', 'fewest', 'disagreement', 'uncertain', 'convincing')),
    overlap       INTEGER NOT NULL CHECK (overlap BETWEEN 1 AND 1000), -- raters for each item
    lease_s       INTEGER NOT NULL CHECK (lease_s BETWEEN 1 AND 604800), -- seconds
    checkpoint_id TEXT, -- whose rewards order the items, for 'uncertain' and 'convincing'
    source        TEXT, -- only chats from there
    words         TEXT, -- only chats whose question contains this
    created_at    TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    archived      INTEGER NOT NULL DEFAULT 0 CHECK (archived IN (0, 1)),
    CHECK (checkpoint_id IS NOT NULL OR item_order NOT IN ('uncertain', 'convincing'))
) STRICT;

INSERT INTO queues (id, name, item_order, overlap, lease_s, created_at)
VALUES ('00000000-0000-0000-0000-000000000001', 'Everything', 'oldest', 1, 1800, '2026-01-01T00:00:00.000000Z');

CREATE TABLE queue_priorities ( -- higher comes first; for orders that a checkpoint decides
    queue_id TEXT NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    chat_id  TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    priority REAL NOT NULL,
    PRIMARY KEY (queue_id, chat_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE assignments (
    queue_id    TEXT NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    chat_id     TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    user_id     TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    status      TEXT NOT NULL CHECK (status IN ('open', 'submitted', 'skipped')),
    leased_until TEXT CHECK (leased_until GLOB '????-??-??T??:??:??.??????Z'),
    claimed_at  TEXT NOT NULL CHECK (claimed_at GLOB '????-??-??T??:??:??.??????Z'),
    finished_at TEXT CHECK (finished_at GLOB '????-??-??T??:??:??.??????Z'),
    reason      TEXT CHECK (length(reason) <= 500), -- why it was skipped
    PRIMARY KEY (queue_id, chat_id, user_id),
    CHECK ((status = 'open') = (leased_until IS NOT NULL)),
    CHECK ((status = 'open') = (finished_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX assignments_user ON assignments (user_id, queue_id, status);

CREATE TABLE chat_marks ( -- one person's marks on one chat
    user_id     TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    chat_id     TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    first_error TEXT, -- the first step that is wrong; what follows it is not to be judged
    flags       TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(flags)),
    updated_at  TEXT NOT NULL CHECK (updated_at GLOB '????-??-??T??:??:??.??????Z'),
    PRIMARY KEY (user_id, chat_id),
    FOREIGN KEY (chat_id, first_error) REFERENCES reasoning_steps (chat_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE label_events ( -- how long, how often: disclosed to the person, and off when they say so
    id      TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    chat_id TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    step_id TEXT,
    kind    TEXT NOT NULL CHECK (kind IN ('dwell', 'edit', 'skip')),
    value   REAL, -- dwell: milliseconds
    at      TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z')
) STRICT;
CREATE INDEX label_events_user ON label_events (user_id, at);

CREATE TABLE applied_ops ( -- what the label page sent and was stored: sent again, it changes nothing
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    outcome    TEXT NOT NULL,
    applied_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE feedback_history ( -- judgements as they were before they were changed or taken back
    feedback_id    TEXT NOT NULL,
    user_id        TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    chat_id        TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    step_id        TEXT,
    feedback_score INTEGER NOT NULL,
    scale          TEXT NOT NULL,
    comment        TEXT,
    given_at       TEXT NOT NULL,
    withdrawn      INTEGER NOT NULL
) STRICT;
CREATE INDEX feedback_history_user ON feedback_history (user_id, chat_id);

CREATE TRIGGER feedback_changed AFTER UPDATE ON chat_feedback
WHEN old.feedback_score <> new.feedback_score OR old.scale <> new.scale OR old.comment IS NOT new.comment
BEGIN
    INSERT INTO feedback_history VALUES (old.id, old.user_id, old.chat_id, old.step_id, old.feedback_score, old.scale,
                                         old.comment, old.updated_at, 0);
END;

CREATE TRIGGER feedback_withdrawn AFTER DELETE ON chat_feedback
WHEN EXISTS (SELECT 1 FROM profiles WHERE user_id = old.user_id) AND EXISTS (SELECT 1 FROM chats WHERE id = old.chat_id)
BEGIN
    INSERT INTO feedback_history VALUES (old.id, old.user_id, old.chat_id, old.step_id, old.feedback_score, old.scale,
                                         old.comment, old.updated_at, 1);
END;
