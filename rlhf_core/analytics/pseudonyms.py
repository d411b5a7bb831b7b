"""Pseudonyms of people: HMAC-SHA256 with a key of the workspace that is kept outside every snapshot."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from rlhf_core.ground.errors import CorruptArtifact

KEY_BYTES = 32
RULE = "hmac-sha256, first 16 hex digits, key outside the snapshot"


class Pseudonyms:
    """Pseudonym by user id; None stays None."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[str, str] = {}

    def __call__(self, user_id: str | None) -> str | None:
        if user_id is None:
            return None
        if user_id not in self._known:
            self._known[user_id] = hmac.new(self._key, user_id.encode(), hashlib.sha256).hexdigest()[:16]
        return self._known[user_id]


def pseudonym_key(keys: Path) -> bytes:
    """The key of people's names in snapshots. Raises as :func:`workspace_key`."""
    return workspace_key(keys, "pseudonym")


def workspace_key(keys: Path, name: str) -> bytes:
    """A secret key of the workspace, made on first use (32 bytes, readable by its owner only).

    Raises:
        CorruptArtifact: the file is there but holds no key.
    """
    path = keys / f"{name}.key"
    if path.exists():
        return _read_key(path)
    keys.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(beside, path)  # unlike a rename, this lets the first of two processes win
    except FileExistsError:
        pass
    finally:
        beside.unlink()
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise CorruptArtifact(
            f"The {path.stem} key {path} is damaged: it should hold {2 * KEY_BYTES} hex digits. Restore it from a backup; "
            "without it people's pseudonyms change. Delete it only if that does not matter."
        )
    return key
