"""Core room: what learns. Examples, batches, the reward model, its measures. Modules that say torch-free serve pages too; no page
reaches the others."""
