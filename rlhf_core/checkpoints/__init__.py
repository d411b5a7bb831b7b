"""Core room: checkpoints on disk, their manifests and hashes, and which base models can be named. Torch-free."""
