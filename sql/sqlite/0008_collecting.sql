-- What chat applications send: who they are, whose chats and judgements they send, what each person agreed to, what was erased.

-- Two CHECKs learn new words. No row changes, so the tables' definitions are edited in place (sqlite.org/lang_altertable.html#otheralter).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, '''imported'', ''demo''', '''imported'', ''demo'', ''application''')
WHERE type = 'table' AND name = 'profiles';
UPDATE sqlite_schema SET sql = replace(sql, '''dwell'', ''edit'', ''skip''', '''dwell'', ''edit'', ''skip'', ''copy'', ''regenerate'', ''follow_up''')
WHERE type = 'table' AND name = 'label_events';
PRAGMA writable_schema = RESET;

CREATE TABLE applications ( -- that may send what people say
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE CHECK (trim(name) <> ''), -- the source of their chats
    token_sha256    TEXT NOT NULL UNIQUE,
    per_minute      INTEGER NOT NULL CHECK (per_minute >= 1), -- requests
    consent_version TEXT NOT NULL CHECK (consent_version <> ''), -- of the words by which people are asked now
    consent_words   TEXT NOT NULL,
    keep_days       INTEGER CHECK (keep_days >= 1), -- after which its chats, and all that was said of them, go; null: they stay
    created_at      TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    revoked_at      TEXT CHECK (revoked_at GLOB '????-??-??T??:??:??.??????Z')
) STRICT;

ALTER TABLE chats ADD COLUMN application_id TEXT REFERENCES applications (id);
CREATE INDEX chats_owner ON chats (owner_id) WHERE owner_id IS NOT NULL;

CREATE TABLE visitors ( -- people of an application; their ids are keyed hashes of those that the application knows them by
    user_id        TEXT PRIMARY KEY REFERENCES profiles (user_id) ON DELETE CASCADE,
    application_id TEXT NOT NULL REFERENCES applications (id)
) STRICT, WITHOUT ROWID;

CREATE TABLE consents ( -- each answer that somebody gave, with the words that they were asked by
    user_id TEXT NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    consent TEXT NOT NULL CHECK (consent IN ('given', 'withdrawn')),
    at      TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z')
) STRICT;
CREATE INDEX consents_user ON consents (user_id, at);

CREATE TABLE received ( -- requests that were carried out: sent again, each is answered as it was and does nothing
    application_id TEXT NOT NULL REFERENCES applications (id),
    user_id        TEXT NOT NULL, -- '' where the application speaks for itself
    id             TEXT NOT NULL, -- the sender's
    fingerprint    TEXT NOT NULL, -- of what was sent
    about          TEXT, -- the chat that was sent, or the chat and step that were judged
    said_at        TEXT, -- by the sender's clock: an older word on the same thing does not undo a newer one
    answer         TEXT NOT NULL CHECK (json_valid(answer)),
    at             TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z'),
    PRIMARY KEY (application_id, user_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX received_about ON received (user_id, about, said_at) WHERE about IS NOT NULL;

CREATE TABLE removed ( -- what was taken out of the texts that came in, because it says who somebody is
    application_id TEXT NOT NULL REFERENCES applications (id),
    month          TEXT NOT NULL CHECK (month GLOB '????-??'),
    kind           TEXT NOT NULL,
    count          INTEGER NOT NULL,
    PRIMARY KEY (application_id, month, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_log ( -- who did what: only added to
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z'),
    who    TEXT NOT NULL, -- a member's name; on the embedded store the machine's account
    act    TEXT NOT NULL,
    what   TEXT NOT NULL, -- a snapshot, run, application, ...
    detail TEXT NOT NULL CHECK (json_valid(detail))
) STRICT;
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log BEGIN SELECT raise(ABORT, 'the audit log is only added to'); END;
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log BEGIN SELECT raise(ABORT, 'the audit log is only added to'); END;

CREATE TABLE spent ( -- hashes of requests of people who were erased: sent again, they bring nothing back
    id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE erasures ( -- that somebody was erased; who it was, only those can tell who ask for them by name and hold the key
    id         TEXT PRIMARY KEY,
    pseudonym  TEXT NOT NULL,
    at         TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z'),
    what       TEXT NOT NULL CHECK (json_valid(what)) -- how much, which snapshots became which, runs and checkpoints that had used it
) STRICT;

-- People of an application count where they said yes; others, unless they said no.
DROP VIEW withdrawn_chats;
DROP VIEW consented_chats;
DROP VIEW withdrawn;
CREATE VIEW withdrawn AS
SELECT user_id FROM profiles WHERE consent = 'withdrawn' OR (origin = 'application' AND consent IS NULL);
-- What is made here of people's chats (answers that policies write to their questions, steps that are written anew, branches), and what
-- is asked elsewhere.
CREATE VIEW made_chats AS SELECT * FROM chats WHERE source IN ('generated', 'branch', 'rewrite') AND application_id IS NULL;
CREATE VIEW asked_chats AS SELECT * FROM chats WHERE source NOT IN ('generated', 'branch', 'rewrite');
-- Their chats, and what was made of those, unless somebody else, who counts, asked the same.
CREATE VIEW withdrawn_chats AS
SELECT id AS chat_id FROM chats WHERE owner_id IN (SELECT user_id FROM withdrawn)
UNION
SELECT m.id FROM chats AS c JOIN made_chats AS m ON m.query = c.query AND m.created_at >= c.created_at
WHERE c.owner_id IN (SELECT user_id FROM withdrawn)
  AND NOT EXISTS (SELECT 1 FROM asked_chats AS o WHERE o.query = m.query
                  AND (o.owner_id IS NULL OR o.owner_id NOT IN (SELECT user_id FROM withdrawn)));
CREATE VIEW consented_chats AS SELECT * FROM chats WHERE id NOT IN (SELECT chat_id FROM withdrawn_chats);
