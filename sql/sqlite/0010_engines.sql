-- Where a run is carried out: on this machine, or by an engine that others keep; and runs that were begun together.

ALTER TABLE runs ADD COLUMN engine TEXT NOT NULL DEFAULT 'local' CHECK (engine <> ''); -- its name in the settings
ALTER TABLE runs ADD COLUMN resources TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(resources)); -- what it asks for there
ALTER TABLE runs ADD COLUMN job_id TEXT; -- how the engine knows it, once it was handed over
ALTER TABLE runs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0; -- how often it was handed over
ALTER TABLE runs ADD COLUMN holds INTEGER NOT NULL DEFAULT 0 CHECK (holds IN (0, 1)); -- the engine may still carry it out
ALTER TABLE runs ADD COLUMN sweep TEXT; -- of runs that were begun together: what they are called

CREATE INDEX runs_sweep ON runs (sweep) WHERE sweep IS NOT NULL;
