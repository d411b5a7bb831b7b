-- Runs of other kinds than reward models; which there are, the code says. Some (policies on example prompts) need no snapshot.

CREATE TABLE runs_of_all_kinds (
    id               TEXT PRIMARY KEY,
    kind             TEXT NOT NULL CHECK (kind <> ''),
    status           TEXT NOT NULL
                     CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'lost')),
    config           TEXT NOT NULL CHECK (json_valid(config)),
    snapshot_id      TEXT NOT NULL, -- '' for none
    requested_by     TEXT,
    created_at       TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    started_at       TEXT,
    finished_at      TEXT,
    heartbeat_at     TEXT,
    host             TEXT,
    pid              INTEGER,
    pid_create_time  REAL,
    phase            TEXT,
    step             INTEGER NOT NULL DEFAULT 0,
    total_steps      INTEGER,
    cancel_requested TEXT, -- when
    message          TEXT,
    checkpoint_id    TEXT
) STRICT;

INSERT INTO runs_of_all_kinds SELECT * FROM runs;

DROP TABLE runs;

ALTER TABLE runs_of_all_kinds RENAME TO runs;

CREATE INDEX runs_created ON runs (created_at DESC, id);
CREATE INDEX runs_status ON runs (status);
