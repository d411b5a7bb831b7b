"""Core room: the one store of feedback, behind contracts (``base``) that every backend keeps."""
