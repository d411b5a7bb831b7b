"""Core room: a place elsewhere that keeps snapshots and checkpoints, by fsspec."""
