"""Core room: what learns. Examples, batches, the reward model, its measures. Imports torch; no page ever imports this room."""
