-- What waits in which order, what a run holds of the machine, and runs that stopped to go on later.

CREATE TABLE runs_that_wait (
    id               TEXT PRIMARY KEY,
    kind             TEXT NOT NULL CHECK (kind <> ''),
    status           TEXT NOT NULL
                     CHECK (status IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled', 'lost')),
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
    checkpoint_id    TEXT,
    priority         INTEGER NOT NULL DEFAULT 0, -- higher ones start first
    pausing          INTEGER NOT NULL DEFAULT 0 CHECK (pausing IN (0, 1)), -- the stop that was asked for is a pause
    memory_mb        INTEGER, -- what it will need, as estimated when it was added
    device           TEXT, -- what it holds while it runs: cpu, cuda:0, ...
    remedy           TEXT CHECK (remedy IS NULL OR json_valid(remedy)) -- options with which a failed one may succeed
) STRICT;

INSERT INTO runs_that_wait (
    id, kind, status, config, snapshot_id, requested_by, created_at, started_at, finished_at, heartbeat_at, host, pid,
    pid_create_time, phase, step, total_steps, cancel_requested, message, checkpoint_id
)
SELECT id, kind, status, config, snapshot_id, requested_by, created_at, started_at, finished_at, heartbeat_at, host, pid,
       pid_create_time, phase, step, total_steps, cancel_requested, message, checkpoint_id
FROM runs;

DROP TABLE runs;

ALTER TABLE runs_that_wait RENAME TO runs;

CREATE INDEX runs_created ON runs (created_at DESC, id);
CREATE INDEX runs_status ON runs (status);
