"""Core room: carries runs out on this machine, on a Ray cluster, or under Slurm. Knows processes and jobs, and no ledger."""
