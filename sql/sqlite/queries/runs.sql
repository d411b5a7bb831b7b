-- Statements of the run ledger. Only the run itself may record success.

-- name: add_run
-- With a host, the row is born running there: no supervisor can take it from the terminal that is about to carry it out.
INSERT INTO runs (id, kind, status, config, snapshot_id, requested_by, created_at, started_at, heartbeat_at, host)
VALUES ($id, $kind, iif($host IS NULL, 'queued', 'running'), $config, $snapshot_id, $requested_by, $now,
        iif($host IS NULL, NULL, $now), iif($host IS NULL, NULL, $now), $host)
ON CONFLICT (id) DO NOTHING;

-- name: run
SELECT * FROM runs WHERE id = $id;

-- name: runs
SELECT * FROM runs ORDER BY created_at DESC, id LIMIT $limit;

-- name: unfinished_runs
SELECT * FROM runs WHERE status IN ('queued', 'running') ORDER BY created_at, id;

-- name: claim_next
UPDATE runs SET status = 'running', started_at = $now, heartbeat_at = $now, host = $host, phase = 'starting'
WHERE id = (SELECT id FROM runs WHERE status = 'queued' ORDER BY created_at, id LIMIT 1)
  AND NOT EXISTS (SELECT 1 FROM runs WHERE status = 'running' AND host = $host)
RETURNING *;

-- name: claim
UPDATE runs SET status = 'running', started_at = $now, heartbeat_at = $now, host = $host, phase = 'starting'
WHERE id = $id AND status = 'queued'
RETURNING *;

-- name: set_process
UPDATE runs SET pid = $pid, pid_create_time = $pid_create_time, host = $host, heartbeat_at = $now
WHERE id = $id AND status = 'running'
RETURNING *;

-- name: beat
UPDATE runs SET heartbeat_at = $now, phase = $phase, step = $step, total_steps = $total_steps
WHERE id = $id AND status = 'running'
RETURNING *;

-- name: finish
UPDATE runs SET status = $status, finished_at = $now, message = $message, checkpoint_id = $checkpoint_id
WHERE id = $id AND status = 'running'
RETURNING *;

-- name: request_cancel
UPDATE runs SET cancel_requested = ifnull(cancel_requested, $now),
                status = iif(status = 'queued', 'cancelled', status),
                finished_at = iif(status = 'queued', $now, finished_at),
                message = iif(status = 'queued', 'Cancelled before it started.', message)
WHERE id = $id AND status IN ('queued', 'running')
RETURNING *;
