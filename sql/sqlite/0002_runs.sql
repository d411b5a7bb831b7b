-- The run ledger: one row for each training run on this workspace, whoever started it.

CREATE TABLE runs (
    id               TEXT PRIMARY KEY,
    kind             TEXT NOT NULL CHECK (kind IN ('reward')),
    status           TEXT NOT NULL
                     CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'lost')),
    config           TEXT NOT NULL CHECK (json_valid(config)),
    snapshot_id      TEXT NOT NULL,
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

CREATE INDEX runs_created ON runs (created_at DESC, id);
CREATE INDEX runs_status ON runs (status);
