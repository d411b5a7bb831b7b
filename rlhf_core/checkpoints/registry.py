"""Checkpoints: a folder each, with a manifest that says which run, config and snapshot made it, and a hash of every file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.ground.cards import Kind, read_card, require_trust
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound
from rlhf_core.ground.files import building, canonical_json, is_plain_name, publish, read_json, sha256_of, write_json
from rlhf_core.ground.records import utc_now

FORMAT = 1
MANIFEST = "manifest.json"
SEEN_FILE = "seen.json"  # of a reward model: keys of the queries that it learned from
REMOVED = ".removed"  # manifests of checkpoints that were removed
_TEXTS = ("kind", "created_at", "run_id", "snapshot_id", "parent")
_OBJECTS = ("files", "scoring", "metrics", "config")
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint on disk: a reward model or a policy, as ``kind`` says.

    ``parent`` is what training began from (a model name or a checkpoint id); ``complete`` is False where the run was stopped
    before its last step.
    """

    id: str
    folder: Path
    created_at: str
    run_id: str
    snapshot_id: str
    parent: str
    complete: bool
    metrics: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def size_bytes(self) -> int:
        """Of its files together."""
        return sum(entry["size_bytes"] for entry in self.manifest["files"].values())

    def verify(self) -> None:
        """
        Raises:
            CorruptArtifact: the manifest or a file is changed or missing, or a file is of a kind that could run code.
        """
        for path in self.folder.rglob("*"):
            if path.suffix in UNSAFE_SUFFIXES:
                raise CorruptArtifact(f"Checkpoint {self.id} holds {path.name}; only safetensors are opened. Remove the file.")
        if _id_of(self.manifest) != self.id:
            raise CorruptArtifact(
                f"The manifest of checkpoint {self.id} was changed: the id is no longer its hash. Restore it, or train again."
            )
        for name, entry in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file():
                raise CorruptArtifact(f"Checkpoint {self.id} lacks {name}. Restore the file, or delete it and train again.")
            if path.stat().st_size != entry["size_bytes"] or sha256_of(path) != entry["sha256"]:
                raise CorruptArtifact(
                    f"Checkpoint {self.id}: {name} is not the file that training wrote (its hash differs). "
                    "Restore it from a backup, or delete the checkpoint and train again."
                )


def seal(
    scratch: Path, checkpoints: Path, *, kind: str, run_id: str, snapshot_id: str, parent: str, complete: bool,
    config: dict[str, Any], metrics: dict[str, Any], scoring: dict[str, Any], libraries: dict[str, str],
) -> Checkpoint:  # fmt: skip
    """Hash what was built in ``scratch``, write the manifest, and rename the folder into place.

    Args:
        scratch: A folder from :func:`rlhf_core.ground.files.building`, with the model's files.
        checkpoints: Where checkpoints live.
        kind: What it is: "reward" or "policy".
        run_id: The run that made it.
        snapshot_id: The ratings it was trained on.
        parent: The model name or checkpoint it began from.
        complete: False for a run stopped early.
        config: The run's configuration.
        metrics: What was measured, by name.
        scoring: What a scorer needs to know: max_length in tokens, reward mean and std in stars.
        libraries: Version by name.
    """
    files = {
        str(path.relative_to(scratch)): {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(scratch.rglob("*"))
        if path.is_file()
    }
    manifest: dict[str, Any] = {
        "format": FORMAT, "kind": kind, "created_at": utc_now(), "run_id": run_id, "snapshot_id": snapshot_id,
        "parent": parent, "complete": complete, "config": config, "metrics": metrics, "scoring": scoring,
        "libraries": libraries, "files": files,
    }  # fmt: skip
    checkpoint_id = _id_of(manifest)
    write_json(scratch / MANIFEST, {"id": checkpoint_id} | manifest)
    publish(scratch, checkpoints / checkpoint_id)
    return open_checkpoint(checkpoints, checkpoint_id)


def _id_of(manifest: dict[str, Any]) -> str:
    content = {name: value for name, value in manifest.items() if name != "id"}
    return f"{content['kind']}-{hashlib.sha256(canonical_json(content).encode()).hexdigest()[:12]}"


def open_checkpoint(checkpoints: Path, checkpoint_id: str, *, verify: bool = False) -> Checkpoint:
    """Open a checkpoint by its id.

    Raises:
        NotFound: there is none of this id.
        CorruptArtifact: broken manifest, or (with ``verify``) files that do not match it.
    """
    if not is_plain_name(checkpoint_id) or not (checkpoints / checkpoint_id).is_dir():
        known = ", ".join(path.name for path in _folders(checkpoints)) or "none yet; train one first"
        raise NotFound(f"There is no checkpoint {checkpoint_id!r}. Checkpoints here: {known}.")
    checkpoint = _read(checkpoints / checkpoint_id)
    if verify:
        checkpoint.verify()
    return checkpoint


def _read(folder: Path) -> Checkpoint:
    checkpoint_id = folder.name
    manifest = read_json(folder / MANIFEST, f"Checkpoint {checkpoint_id}")
    try:
        if manifest["format"] != FORMAT or not all(isinstance(manifest[name], dict) for name in _OBJECTS):
            raise CorruptArtifact(f"Checkpoint {checkpoint_id} has format {manifest['format']!r}; expected {FORMAT}.")
        if not all(isinstance(manifest[name], str) for name in _TEXTS):
            raise TypeError(f"{', '.join(_TEXTS)} have to be texts")
        for name, entry in manifest["files"].items():
            if not isinstance(entry["size_bytes"], int) or not isinstance(entry["sha256"], str):
                raise TypeError(f"{name} has no size and no hash")
        return Checkpoint(
            checkpoint_id, folder, manifest["created_at"], manifest["run_id"], manifest["snapshot_id"], manifest["parent"],
            manifest["complete"], manifest["metrics"], manifest,
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise CorruptArtifact(
            f"Checkpoint {checkpoint_id} has a broken manifest ({error!r}). Delete {folder} and train again."
        ) from error


def open_scorer(checkpoints: Path, checkpoint_id: str) -> Checkpoint:
    """Open a checkpoint that has to be a reward model.

    Raises:
        NotFound, CorruptArtifact: the checkpoint.
        InvalidInput: it is a policy.
    """
    checkpoint = open_checkpoint(checkpoints, checkpoint_id)
    if checkpoint.kind != "reward":
        raise InvalidInput(f"{checkpoint_id} is a {checkpoint.kind}, which writes answers; only a reward model scores them.")
    return checkpoint


def open_trusted(checkpoints: Path, checkpoint_id: str, kind: Kind, purpose: str) -> Checkpoint:
    """Open a reward checkpoint to act on its rewards: the gate.

    Raises:
        NotFound, CorruptArtifact: the checkpoint, or its card.
        ModelRefused: what its card says does not allow the purpose.
    """
    checkpoint = open_checkpoint(checkpoints, checkpoint_id, verify=True)
    require_trust(checkpoint.id, read_card(checkpoint.folder), kind, purpose)
    return checkpoint


def seen_by(checkpoint: Checkpoint) -> set[str] | None:
    """Keys of the queries that a reward model learned from; None where its checkpoint does not say."""
    path = checkpoint.folder / SEEN_FILE
    return set(read_json(path, f"{checkpoint.id}: {SEEN_FILE}")["queries"]) if path.is_file() else None


def retire(checkpoint: Checkpoint) -> None:
    """Remove a checkpoint's files; its manifest stays in a folder of notes, so that what it was can still be told."""
    folder = checkpoint.folder.parent
    (folder / REMOVED).mkdir(exist_ok=True)
    write_json(folder / REMOVED / f"{checkpoint.id}.json", checkpoint.manifest | {"removed_at": utc_now()})
    with building(folder) as going:  # gone at once for whoever lists; what a killed removal leaves is swept later
        checkpoint.folder.rename(going / checkpoint.id)


def list_checkpoints(checkpoints: Path, kind: str | None = None) -> list[Checkpoint]:
    """All readable checkpoints (of a kind), newest first."""
    found = []
    for folder in _folders(checkpoints):
        try:
            one = _read(folder)
        except (CorruptArtifact, NotFound):
            continue  # a broken one is reported when it is named
        if kind in (None, one.kind):
            found.append(one)
    return sorted(found, key=lambda checkpoint: checkpoint.created_at, reverse=True)


def _folders(checkpoints: Path) -> list[Path]:
    return sorted(path for path in checkpoints.glob("*") if path.is_dir() and not path.name.startswith("."))
