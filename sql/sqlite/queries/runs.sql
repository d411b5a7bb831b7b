-- Statements of the run ledger. Only the run itself may record success.

-- name: add_run
-- With a host, the row is born running there: no supervisor can take it from the terminal that is about to carry it out.
INSERT INTO runs (id, kind, status, config, snapshot_id, requested_by, created_at, started_at, heartbeat_at, host, memory_mb,
                  engine, resources, sweep)
VALUES ($id, $kind, iif($host IS NULL, 'queued', 'running'), $config, $snapshot_id, $requested_by, $now,
        iif($host IS NULL, NULL, $now), iif($host IS NULL, NULL, $now), $host, $memory_mb, $engine, $resources, $sweep)
ON CONFLICT (id) DO NOTHING;

-- name: restore_run
-- One that ended elsewhere, as it was.
INSERT INTO runs (id, kind, status, config, snapshot_id, requested_by, created_at, started_at, finished_at,
        heartbeat_at, host, pid, pid_create_time, phase, step, total_steps, cancel_requested, message, checkpoint_id,
        priority, pausing, memory_mb, device, remedy, engine, resources, sweep)
VALUES ($id, $kind, $status, $config, $snapshot_id, $requested_by, $created_at, $started_at, $finished_at,
        $heartbeat_at, $host, $pid, $pid_create_time, $phase, $step, $total_steps, $cancel_requested, $message,
        $checkpoint_id, $priority, $pausing, $memory_mb, $device, $remedy,
        $engine, $resources, $sweep)
ON CONFLICT (id) DO NOTHING
RETURNING *;

-- name: run
SELECT * FROM runs WHERE id = $id;

-- name: runs
SELECT * FROM runs ORDER BY created_at DESC, id LIMIT $limit;

-- name: find_runs
-- Lists are JSON; an empty one, and empty words, stand for all. Words are looked for in whatever is known of a run.
SELECT id, kind, status, created_at,
       (julianday(ifnull(finished_at, $now)) - julianday(started_at)) * 1440,
       step, total_steps,
       ifnull(config ->> 'reward_base_model', config ->> 'base_model'),
       checkpoint_id, nullif(snapshot_id, ''),
       substr(coalesce(message, phase, ''), 1, 160)
FROM runs
WHERE ($kinds = '[]' OR kind IN (SELECT value FROM json_each($kinds)))
  AND ($statuses = '[]' OR status IN (SELECT value FROM json_each($statuses)))
  AND ($sweep IS NULL OR sweep = $sweep)
  AND ($words = '' OR instr(lower(id || ' ' || engine || ' ' || ifnull(sweep, '') || ' ' || ifnull(checkpoint_id, '') || ' ' || snapshot_id || ' ' || config || ' ' || ifnull(message, '')), lower($words)) > 0)
ORDER BY created_at DESC, id
LIMIT $limit;

-- name: tally_of_runs
SELECT kind, status, count(*) FROM runs GROUP BY kind, status ORDER BY kind, status;

-- name: unfinished_runs
-- In the order in which they start.
SELECT * FROM runs WHERE status IN ('queued', 'running') ORDER BY priority DESC, created_at, id;

-- name: runs_not_over
SELECT * FROM runs WHERE status IN ('queued', 'running', 'paused') ORDER BY created_at, id;

-- name: claim
UPDATE runs SET status = 'running', started_at = ifnull(started_at, $now), heartbeat_at = $now, host = $host, device = $device,
                phase = 'starting'
WHERE id = $id AND status = 'queued'
RETURNING *;

-- name: next_attempt
-- A number of its own, so that an older try is told from it.
UPDATE runs SET attempt = attempt + 1, job_id = NULL, phase = NULL, holds = 0
WHERE id = $id AND status = 'queued'
RETURNING *;

-- name: holds
-- From before it is handed over until it is known to be over there.
UPDATE runs SET holds = $holds WHERE id = $id AND attempt = $attempt
RETURNING *;

-- name: set_job
UPDATE runs SET job_id = $job_id, phase = iif(status = 'queued', NULL, phase) WHERE id = $id AND attempt = $attempt
RETURNING *;

-- name: given_up
-- Over here, while an engine may still carry them out.
SELECT * FROM runs
WHERE engine <> 'local' AND holds = 1 AND status NOT IN ('queued', 'running')
ORDER BY created_at, id;

-- name: say_phase
-- What it waits for.
UPDATE runs SET phase = $phase WHERE id = $id AND status IN ('queued', 'running') AND phase IS NOT $phase
RETURNING *;

-- name: fail_queued
-- One that could not be begun.
UPDATE runs SET status = 'failed', finished_at = $now, message = $message WHERE id = $id AND status = 'queued'
RETURNING *;

-- name: sweeps
SELECT sweep, min(created_at), count(*), sum(status IN ('queued', 'running', 'paused')), min(kind)
FROM runs WHERE sweep IS NOT NULL GROUP BY sweep ORDER BY min(created_at) DESC;

-- name: set_process
UPDATE runs SET pid = $pid, pid_create_time = $pid_create_time, host = $host, heartbeat_at = $now
WHERE id = $id AND status = 'running'
RETURNING *;

-- name: beat
UPDATE runs SET heartbeat_at = $now, phase = $phase, step = $step, total_steps = $total_steps
WHERE id = $id AND status = 'running'
RETURNING *;

-- name: finish
-- One that was asked to pause and stopped so can go on; whatever else happened to it, happened.
UPDATE runs SET status = iif(pausing = 1 AND $status = 'cancelled', 'paused', $status), finished_at = $now, message = $message,
                checkpoint_id = $checkpoint_id, remedy = $remedy
WHERE id = $id AND status = 'running'
RETURNING *;

-- name: request_cancel
UPDATE runs SET cancel_requested = ifnull(cancel_requested, $now),
                pausing = 0,
                status = iif(status IN ('queued', 'paused'), 'cancelled', status),
                finished_at = iif(status = 'running', finished_at, $now),
                message = CASE status WHEN 'queued' THEN 'Cancelled before it started.'
                                      WHEN 'paused' THEN 'Cancelled while it was paused.' ELSE message END
WHERE id = $id AND status IN ('queued', 'running', 'paused')
RETURNING *;

-- name: request_pause
UPDATE runs SET cancel_requested = iif(status = 'running', ifnull(cancel_requested, $now), NULL),
                pausing = iif(cancel_requested IS NULL, 1, pausing), -- a cancel that was asked for stays one
                status = iif(status = 'queued', 'paused', status),
                message = iif(status = 'queued', 'Paused before it started.', message)
WHERE id = $id AND status IN ('queued', 'running')
RETURNING *;

-- name: go_on
UPDATE runs SET status = 'queued', cancel_requested = NULL, pausing = 0, finished_at = NULL, message = NULL, host = NULL,
                pid = NULL, pid_create_time = NULL, device = NULL, phase = NULL, job_id = NULL, attempt = attempt + 1
WHERE id = $id AND status = 'paused' AND holds = 0 -- an engine has to hear of the pause first
RETURNING *;

-- name: set_priority
UPDATE runs SET priority = $priority WHERE id = $id AND status IN ('queued', 'paused')
RETURNING *;

-- name: move_runs
-- Those that have not begun, or wait.
UPDATE runs SET snapshot_id = $new WHERE snapshot_id = $old AND status IN ('queued', 'paused')
RETURNING *;
