-- Which checkpoint serves whom, and what answers people got from which.

CREATE TABLE model_log ( -- what was decided of checkpoints: only added to; the last entry of a kind is how things stand
    kind          TEXT NOT NULL CHECK (kind IN ('reward', 'policy')),
    number        INTEGER NOT NULL CHECK (number >= 1), -- without gaps: of two who decide at once, the second is refused
    at            TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z'),
    who           TEXT NOT NULL,
    act           TEXT NOT NULL CHECK (act IN ('candidate', 'drop', 'serve', 'canary', 'share', 'back')),
    checkpoint_id TEXT NOT NULL,
    reason        TEXT NOT NULL CHECK (trim(reason) <> ''),
    state         TEXT NOT NULL CHECK (json_valid(state)), -- after it
    detail        TEXT NOT NULL CHECK (json_valid(detail)), -- figures it was decided on
    PRIMARY KEY (kind, number)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER model_log_stays BEFORE UPDATE ON model_log BEGIN SELECT raise(ABORT, 'the log of models is only added to'); END;
CREATE TRIGGER model_log_is_kept BEFORE DELETE ON model_log BEGIN SELECT raise(ABORT, 'the log of models is only added to'); END;
CREATE TRIGGER model_log_has_no_gaps BEFORE INSERT ON model_log
WHEN NEW.number <> 1 + (SELECT count(*) FROM model_log WHERE kind = NEW.kind)
BEGIN SELECT raise(ABORT, 'somebody else decided something meanwhile'); END;

CREATE TABLE served_chats ( -- which checkpoint answered a person, as the application told it
    number        INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of coming in
    chat_id       TEXT NOT NULL UNIQUE REFERENCES chats (id) ON DELETE CASCADE,
    at            TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z'), -- by this server's clock
    checkpoint_id TEXT NOT NULL,
    begun         INTEGER, -- the entry with which the roll-out began that was under way; null: none
    refused       INTEGER CHECK (refused IN (0, 1)),
    latency_ms    REAL CHECK (latency_ms >= 0)
) STRICT;
CREATE INDEX served_chats_rollout ON served_chats (begun, number);

CREATE TABLE served_before ( -- figures of answers that had been kept for their time, whose they were left out: the evidence of a roll-out stays
    number        INTEGER PRIMARY KEY,
    at            TEXT NOT NULL,
    checkpoint_id TEXT NOT NULL,
    begun         INTEGER NOT NULL,
    rating        REAL,
    characters    INTEGER NOT NULL,
    refused       INTEGER,
    latency_ms    REAL
) STRICT;
