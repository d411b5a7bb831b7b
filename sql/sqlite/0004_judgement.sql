-- Preferences, rubrics and their aspects, rewritten steps, known answers (gold), decisions on disputes, hints after the fact.

ALTER TABLE queues ADD COLUMN task TEXT NOT NULL DEFAULT 'rate' CHECK (task IN ('rate', 'choose'));
ALTER TABLE queues ADD COLUMN asks TEXT NOT NULL DEFAULT 'everything' CHECK (asks IN ('everything', 'aspects'));
ALTER TABLE queues ADD COLUMN gold_rate REAL NOT NULL DEFAULT 0 CHECK (gold_rate BETWEEN 0 AND 0.5); -- share of items with a known answer
ALTER TABLE queues ADD COLUMN screening INTEGER NOT NULL DEFAULT 0 CHECK (screening BETWEEN 0 AND 100); -- known answers before first work
ALTER TABLE queues ADD COLUMN screening_pass REAL NOT NULL DEFAULT 0.7 CHECK (screening_pass BETWEEN 0 AND 1);
ALTER TABLE queues ADD COLUMN hint_checkpoint TEXT; -- whose rewards are shown after submitting

INSERT INTO queues (id, name, item_order, overlap, lease_s, created_at, task)
SELECT '00000000-0000-0000-0000-000000000002',
       iif(EXISTS (SELECT 1 FROM queues WHERE name = 'Every two answers'), 'Every two answers (pairs)', 'Every two answers'),
       'oldest', 1, 1800, '2026-01-01T00:00:01.000000Z', 'choose';

CREATE INDEX chats_query ON chats (query); -- two answers to one question find each other

-- an item is a chat, or two chats with one question
CREATE TABLE assignments_of_items (
    queue_id     TEXT NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    chat_id      TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    other_id     TEXT REFERENCES chats (id) ON DELETE CASCADE,
    user_id      TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    status       TEXT NOT NULL CHECK (status IN ('open', 'submitted', 'skipped')),
    leased_until TEXT CHECK (leased_until GLOB '????-??-??T??:??:??.??????Z'),
    claimed_at   TEXT NOT NULL CHECK (claimed_at GLOB '????-??-??T??:??:??.??????Z'),
    finished_at  TEXT CHECK (finished_at GLOB '????-??-??T??:??:??.??????Z'),
    reason       TEXT CHECK (length(reason) <= 500), -- why it was skipped
    CHECK (other_id IS NULL OR chat_id < other_id),
    CHECK ((status = 'open') = (leased_until IS NOT NULL)),
    CHECK ((status = 'open') = (finished_at IS NULL))
) STRICT;
INSERT INTO assignments_of_items (queue_id, chat_id, user_id, status, leased_until, claimed_at, finished_at, reason)
SELECT queue_id, chat_id, user_id, status, leased_until, claimed_at, finished_at, reason FROM assignments;
DROP TABLE assignments;
ALTER TABLE assignments_of_items RENAME TO assignments;
CREATE UNIQUE INDEX assignments_once ON assignments (queue_id, chat_id, ifnull(other_id, ''), user_id);
CREATE INDEX assignments_user ON assignments (user_id, queue_id, status);

CREATE TABLE preferences ( -- which of two answers to one question is better: as a whole, up to a step, or in one aspect
    id         TEXT PRIMARY KEY,
    chat_id    TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    other_id   TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    step_order INTEGER CHECK (step_order >= 1), -- null: the whole answers
    aspect     TEXT NOT NULL DEFAULT '', -- '': all in all
    user_id    TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    verdict    TEXT NOT NULL CHECK (verdict IN ('chat', 'other', 'tie', 'both_bad')), -- 'chat': chat_id is better
    strength   INTEGER CHECK (strength BETWEEN 1 AND 3), -- 1 slightly, 2 clearly, 3 much
    shown_left TEXT, -- which of the two stood on the left; null: it is not known
    comment    TEXT CHECK (length(comment) <= 8000),
    created_at TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    updated_at TEXT NOT NULL CHECK (updated_at GLOB '????-??-??T??:??:??.??????Z'),
    CHECK (chat_id < other_id), -- one pair, one way to write it
    CHECK (strength IS NULL OR verdict IN ('chat', 'other')),
    CHECK (shown_left IS NULL OR shown_left IN (chat_id, other_id))
) STRICT;
CREATE UNIQUE INDEX preferences_once ON preferences (user_id, chat_id, other_id, ifnull(step_order, 0), aspect);
CREATE INDEX preferences_pair ON preferences (chat_id, other_id);
CREATE INDEX preferences_other ON preferences (other_id);

CREATE TABLE rubrics ( -- what a queue asks beside the score; a version never changes
    queue_id   TEXT NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL CHECK (version >= 1),
    aspects    TEXT NOT NULL CHECK (json_valid(aspects)),
    created_at TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    PRIMARY KEY (queue_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE aspect_ratings (
    id             TEXT PRIMARY KEY,
    chat_id        TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    step_id        TEXT, -- null: the whole answer
    user_id        TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    queue_id       TEXT, -- null, as the version: it came with a file
    rubric_version INTEGER, -- whose anchors the person saw
    aspect         TEXT NOT NULL CHECK (trim(aspect) <> ''),
    score          INTEGER NOT NULL CHECK (score BETWEEN 1 AND 5),
    created_at     TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    updated_at     TEXT NOT NULL CHECK (updated_at GLOB '????-??-??T??:??:??.??????Z'),
    CHECK ((queue_id IS NULL) = (rubric_version IS NULL)),
    FOREIGN KEY (queue_id, rubric_version) REFERENCES rubrics (queue_id, version) ON DELETE CASCADE,
    FOREIGN KEY (chat_id, step_id) REFERENCES reasoning_steps (chat_id, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX aspect_ratings_once ON aspect_ratings (user_id, chat_id, ifnull(step_id, ''), aspect);
CREATE INDEX aspect_ratings_chat ON aspect_ratings (chat_id);

CREATE TABLE rewrites ( -- a better step; the answer up to it is a chat of its own (source 'rewrite')
    user_id    TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    step_id    TEXT NOT NULL REFERENCES reasoning_steps (id) ON DELETE CASCADE,
    rewrite_id TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    text       TEXT NOT NULL CHECK (trim(text) <> ''),
    updated_at TEXT NOT NULL CHECK (updated_at GLOB '????-??-??T??:??:??.??????Z'),
    PRIMARY KEY (user_id, step_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX rewrites_chat ON rewrites (rewrite_id);

CREATE TABLE gold ( -- items whose answer is known
    id          TEXT PRIMARY KEY,
    chat_id     TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    other_id    TEXT REFERENCES chats (id) ON DELETE CASCADE,
    answer      TEXT NOT NULL CHECK (json_valid(answer)), -- {"scores": {step id or "": 1-5}, "first_error": step id or "", "verdict": ...}
    explanation TEXT NOT NULL DEFAULT '',
    created_by  TEXT REFERENCES profiles (user_id) ON DELETE SET NULL,
    created_at  TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    CHECK (other_id IS NULL OR chat_id < other_id)
) STRICT;
CREATE UNIQUE INDEX gold_once ON gold (chat_id, ifnull(other_id, ''));

CREATE TABLE gold_results ( -- how somebody did, when they first submitted it; what they change afterwards does not count
    queue_id TEXT NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    chat_id  TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    other_id TEXT REFERENCES chats (id) ON DELETE CASCADE,
    user_id  TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    asked    INTEGER NOT NULL CHECK (asked >= 1),
    matched  INTEGER NOT NULL CHECK (matched BETWEEN 0 AND asked),
    detail   TEXT NOT NULL CHECK (json_valid(detail)), -- [[place, known, given, same], ...]
    at       TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z'),
    counts   INTEGER NOT NULL DEFAULT 1 CHECK (counts IN (0, 1)) -- 0: somebody may try again; that they were told stays
) STRICT;
CREATE UNIQUE INDEX gold_results_once ON gold_results (user_id, queue_id, chat_id, ifnull(other_id, '')) WHERE counts = 1;

CREATE TABLE decisions ( -- what counts where raters dispute
    id         TEXT PRIMARY KEY,
    chat_id    TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    other_id   TEXT REFERENCES chats (id) ON DELETE CASCADE,
    step_id    TEXT,
    kind       TEXT NOT NULL CHECK (kind IN ('score', 'first_error', 'preference')),
    value      TEXT NOT NULL, -- 1-5; a step's id, or '' for none; a verdict
    reason     TEXT NOT NULL CHECK (trim(reason) <> '' AND length(reason) <= 8000),
    decided_by TEXT REFERENCES profiles (user_id) ON DELETE SET NULL,
    decided_at TEXT NOT NULL CHECK (decided_at GLOB '????-??-??T??:??:??.??????Z'),
    CHECK ((kind = 'preference') = (other_id IS NOT NULL)),
    CHECK (kind <> 'score' OR value IN ('1', '2', '3', '4', '5')),
    CHECK (kind <> 'preference' OR value IN ('chat', 'other', 'tie', 'both_bad')),
    FOREIGN KEY (chat_id, step_id) REFERENCES reasoning_steps (chat_id, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX decisions_once ON decisions (chat_id, ifnull(other_id, ''), ifnull(step_id, ''), kind);

CREATE TABLE hints ( -- a checkpoint's rewards, made ahead so that nobody waits for them
    queue_id      TEXT NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    chat_id       TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    checkpoint_id TEXT NOT NULL,
    rewards       TEXT NOT NULL CHECK (json_valid(rewards)), -- {step id, or "" for the whole answer: stars}
    PRIMARY KEY (queue_id, chat_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE hints_shown ( -- what somebody had said when they saw what the checkpoint thinks
    queue_id      TEXT NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    chat_id       TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    other_id      TEXT REFERENCES chats (id) ON DELETE CASCADE,
    step_id       TEXT,
    user_id       TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    checkpoint_id TEXT NOT NULL,
    reward        REAL NOT NULL, -- stars; of two answers, how much more chat_id's is
    said          TEXT NOT NULL, -- a score, or a verdict
    at            TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z')
) STRICT;
CREATE UNIQUE INDEX hints_shown_once ON hints_shown (user_id, queue_id, chat_id, ifnull(other_id, ''), ifnull(step_id, ''));

-- What a queue can hand out. Rewritten answers only where a queue asks for them by their source.
CREATE VIEW queue_items AS
SELECT q.id AS queue_id, c.id AS chat_id, NULL AS other_id, c.created_at
FROM queues AS q, chats AS c
WHERE q.task = 'rate' AND iif(q.source IS NULL, c.source <> 'rewrite', c.source = q.source)
  AND (q.words IS NULL OR instr(lower(c.query), lower(q.words)) > 0)
UNION ALL
SELECT q.id, a.id, b.id, max(a.created_at, b.created_at)
FROM queues AS q, chats AS a JOIN chats AS b ON b.query = a.query AND a.id < b.id
WHERE q.task = 'choose' AND a.response <> b.response
  AND iif(q.source IS NULL, a.source <> 'rewrite' AND b.source <> 'rewrite', a.source = q.source AND b.source = q.source)
  AND (q.words IS NULL OR instr(lower(a.query), lower(q.words)) > 0);
