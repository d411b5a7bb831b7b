"""Copies of snapshots and checkpoints in a place that fsspec reaches, each in a folder of its own with its manifest.

The manifest is written last, so an artifact is there whole or not at all; what a broken-off copy has sent already is not sent
again. Every file is compared with the hash in its manifest, on the way there and on the way back.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, get_args

from rlhf_core.ground.depots import DepotSettings
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound, RlhfError, StorageUnavailable, disk_errors
from rlhf_core.ground.files import publish, read_json, sha256_of

Kind = Literal["snapshots", "checkpoints"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MANIFEST = "manifest.json"
PULLING = ".pulling-"  # folder beside the artifacts here, of what is being fetched
BLOCK = 4 << 20
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "r2", "memory"}
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
NEVER = ("NoCredentialsError", "PartialCredentialsError", "InvalidAccessKeyId", "NoSuchBucket", "ParamValidationError")
T = TypeVar("T")
Say = Callable[[str], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """One artifact there. ``size_bytes``: of all its files."""

    kind: Kind
    id: str
    created_at: str
    size_bytes: int
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moved:
    """What copying one artifact came to: bytes that went over the line, and bytes that were there already."""

    sent_bytes: int
    there_bytes: int


class Depot:
    """One place. Every method raises :class:`StorageUnavailable` where it does not answer for ``patience_s``, or refuses."""

    def __init__(self, settings: DepotSettings) -> None:
        self.settings = settings
        self._made: Any = None

    # What is there.
    def listing(self, kind: Kind) -> list[Kept]:
        """Whole artifacts, newest first."""
        found = []
        for name in self._ask(f"listing {kind}", self._folders, kind):
            try:
                kept = self._kept(kind, name)
            except CorruptArtifact as error:
                log.warning("%s", error)  # named when it is asked for; no other is kept from view
                continue
            found += [kept] if kept is not None else []
        return sorted(found, key=lambda one: one.created_at, reverse=True)

    def find(self, kind: Kind, artifact_id: str) -> Kept:
        """By its id or the beginning of it.

        Raises:
            NotFound: none or several begin so. CorruptArtifact: its manifest is broken.
        """
        names = [name for name in self._ask(f"listing {kind}", self._folders, kind) if name.startswith(artifact_id)]
        found = [one for one in (self._kept(kind, name) for name in names) if one is not None]
        if len(found) != 1:
            raise NotFound(f"{len(found) or 'None'} of the {kind} in {self.settings.url} begin with {artifact_id!r}.")
        return found[0]

    # There and back.
    def push(self, kind: Kind, folder: Path, say: Say = lambda _: None) -> Moved:
        """Copy an artifact's folder there.

        Args:
            kind: What it is.
            folder: Of a whole artifact; its name is its id.
            say: Told of each file.

        Raises:
            CorruptArtifact: a file here is not what the manifest says; or one there is not, however often it is sent.
        """
        manifest = read_json(folder / MANIFEST, folder.name)
        sent = there = 0
        names: dict[str, Any] = manifest["files"]
        for name, entry in names.items():
            self._check_name(folder.name, name)
            path, at = folder / name, self._at(kind, folder.name, name)
            if not path.is_file() or path.stat().st_size != entry["size_bytes"] or sha256_of(path) != entry["sha256"]:
                raise CorruptArtifact(f"{folder.name}: {name} here is not the file that its manifest names; it was not sent.")
            if self._ask(f"looking at {name}", self._is, at, entry, path):
                there += entry["size_bytes"]
                continue
            self._ask(f"sending {name}", self._send, path, at, entry)
            sent += entry["size_bytes"]
            say(f"{name}: sent")
        for name, entry in names.items():  # a place that was begun anew has lost what it had
            at = self._at(kind, folder.name, name)
            if self._ask(f"looking at {name}", self._size, at) != entry["size_bytes"]:
                self._ask(f"sending {name}", self._send, folder / name, at, entry)
        text = (folder / MANIFEST).read_bytes()
        self._ask("sending the manifest", self._write, self._at(kind, folder.name, MANIFEST), text)
        return Moved(sent, there)

    def pull(self, kind: Kind, artifact_id: str, home: Path, say: Say = lambda _: None) -> tuple[Path, Moved]:
        """Fetch an artifact into ``home``, where its kind lives here. A fetch that was broken off goes on where it stood, in the
        midst of a file too.

        Raises:
            NotFound: it is not there. CorruptArtifact: a file there is not what its manifest says.
        """
        kept = self.find(kind, artifact_id)
        final = home / kept.id
        if final.is_dir():
            return final, Moved(0, kept.size_bytes)
        scratch = home / f"{PULLING}{kept.id}"
        sent = there = 0
        with disk_errors("fetching from the depot", home):
            scratch.mkdir(parents=True, exist_ok=True)
            for name, entry in kept.manifest["files"].items():
                self._check_name(kept.id, name)
                path, at = scratch / name, self._at(kind, kept.id, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file() and sha256_of(path) == entry["sha256"]:
                    there += entry["size_bytes"]
                    continue
                got = self._fetch(at, path, entry, name)
                sent, there = sent + got, there + entry["size_bytes"] - got
                say(f"{name}: fetched")
            (scratch / MANIFEST).write_text(json.dumps(kept.manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            publish(scratch, final)
        return final, Moved(sent, there)

    def verify(self, kind: Kind, artifact_id: str) -> Kept:
        """Read everything there and compare it with the hashes.

        Raises:
            CorruptArtifact: names the first file that differs or is missing.
        """
        kept = self.find(kind, artifact_id)
        for name, entry in kept.manifest["files"].items():
            at = self._at(kind, kept.id, name)
            if self._ask(f"reading {name}", self._hash, at) != entry["sha256"]:
                raise CorruptArtifact(f"{kept.id} in {self.settings.url}: {name} is missing or not what was sent. Send it again.")
        return kept

    def unfinished(self, kind: Kind) -> list[str]:
        """Folders without a manifest, or with a broken one: of copies that were broken off."""
        found = []
        for name in self._ask(f"listing {kind}", self._folders, kind):
            try:
                if self._kept(kind, name) is None:
                    found.append(name)
            except CorruptArtifact:
                found.append(name)
        return found

    def remove(self, kind: Kind, artifact_id: str) -> None:
        """Its manifest first, so that no half one is taken for whole. One that is not there: nothing."""

        def go() -> None:
            manifest, folder = self._at(kind, artifact_id, MANIFEST), self._at(kind, artifact_id)
            self._fs.invalidate_cache()
            for path, recursive in ((manifest, False), (folder, True)):
                if self._fs.exists(path):
                    self._fs.rm(path, recursive=recursive)

        if not artifact_id or PurePosixPath(artifact_id).name != artifact_id:
            raise InvalidInput(f"{artifact_id!r} is the id of nothing.")
        self._ask(f"removing {artifact_id}", go)

    # For readers that need no copy.
    @property
    def filesystem(self) -> Any:
        """Of fsspec."""
        return self._fs

    def path(self, kind: Kind, artifact_id: str, name: str) -> str:
        """Of a file, as :attr:`filesystem` takes it."""
        self._check_name(artifact_id, name)
        return self._at(kind, artifact_id, name)

    # One file.
    def _send(self, path: Path, at: str, entry: dict[str, Any]) -> None:
        if self.settings.protocol not in OBJECT_STORES:  # which have no folders, and some would make a bucket
            self._fs.makedirs(at.rsplit("/", 1)[0], exist_ok=True)
        self._fs.put_file(str(path), at)
        if not self._is(at, entry, path):
            self._fs.rm(at)
            raise OSError(f"what arrived of {path.name} is not what was sent")

    def _is(self, at: str, entry: dict[str, Any], path: Path) -> bool:
        """Whether the file there is this one: by the checksum that the place itself keeps, else by reading it."""
        if self._size(at) != entry["size_bytes"]:
            return False
        tag = str(self._fs.info(at).get("ETag", "")).strip('"').lower()
        if len(tag) == 32 and all(one in "0123456789abcdef" for one in tag) and tag == _md5_of(path):
            return True
        return bool(self._hash(at) == entry["sha256"])

    def _write(self, at: str, text: bytes) -> None:
        self._fs.pipe_file(at, text)

    def _size(self, at: str) -> int | None:
        self._fs.invalidate_cache()
        try:
            return int(self._fs.size(at))
        except FileNotFoundError:
            return None

    def _hash(self, at: str) -> str | None:
        digest = hashlib.sha256()
        try:
            with self._fs.open(at, "rb", block_size=BLOCK, cache_type="readahead") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    def _fetch(self, at: str, path: Path, entry: dict[str, Any], name: str) -> int:
        """Returns the bytes that were fetched."""
        got = 0
        part = path.with_name(f".{path.name}.part")

        def go_on() -> None:
            nonlocal got
            begun = part.stat().st_size if part.is_file() else 0
            with self._fs.open(at, "rb", block_size=BLOCK, cache_type="readahead") as file, part.open("ab") as out:
                file.seek(begun)
                while block := file.read(BLOCK):
                    out.write(block)
                    out.flush()
                    got += len(block)
                    if out.tell() > entry["size_bytes"]:
                        break  # it is not the file that was kept; nobody's disk is filled with it

        for last in (False, True):
            try:
                self._ask(f"fetching {name}", go_on)
            except FileNotFoundError:
                break
            if part.stat().st_size == entry["size_bytes"] and sha256_of(part) == entry["sha256"]:
                part.replace(path)
                return got
            part.unlink()  # a part of an older try was damaged: once more from its beginning
            if last:
                break
        raise CorruptArtifact(f"{name} in {self.settings.url} is missing or not what was sent. Send it from where it is whole.")

    # The place.
    @property
    def _fs(self) -> Any:
        if self._made is None:
            import fsspec

            options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True} | self.settings.options
            try:
                self._made = fsspec.filesystem(self.settings.protocol, **options)
            except (ImportError, ValueError) as error:
                raise InvalidInput(f"{self.settings.url}: {error}") from error
        return self._made

    def _at(self, kind: Kind, artifact_id: str, name: str = "") -> str:
        root = self._fs._strip_protocol(self.settings.url)
        return "/".join(part for part in (str(root).rstrip("/"), kind, artifact_id, name) if part)

    def _folders(self, kind: Kind) -> list[str]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._at(kind, ""), detail=False)
        except FileNotFoundError:
            return []
        return [name for name in (PurePosixPath(one.rstrip("/")).name for one in found) if name and not name.startswith(".")]

    def _kept(self, kind: Kind, name: str) -> Kept | None:
        def read() -> bytes | None:
            try:
                return bytes(self._fs.cat_file(self._at(kind, name, MANIFEST)))
            except FileNotFoundError:
                return None

        text = self._ask(f"reading the manifest of {name}", read)
        if text is None:
            return None
        try:
            manifest = json.loads(text)
            size = sum(int(entry["size_bytes"]) for entry in manifest["files"].values())
            if manifest["id"] != name:
                raise ValueError(f"it says {manifest['id']}")
            return Kept(kind, name, str(manifest["created_at"]), size, manifest)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptArtifact(f"{name} in {self.settings.url} has a broken manifest ({error!r}). Send it again.") from error

    @staticmethod
    def _check_name(artifact_id: str, name: str) -> None:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or name == MANIFEST:
            raise CorruptArtifact(f"{artifact_id} names a file {name!r}, which no artifact has.")

    def _ask(self, doing: str, work: Callable[..., T], *arguments: Any) -> T:
        """Do it; where the place does not answer, again and again for ``patience_s``."""
        end, wait = time.monotonic() + self.settings.patience_s, FIRST_WAIT_S
        while True:
            try:
                return work(*arguments)
            except RlhfError:
                raise
            except PermissionError as error:
                raise StorageUnavailable(
                    f"{self.settings.url} does not let us in ({doing}: {_words(error)}). Check what stands under [depot.options]."
                ) from error
            except Exception as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # the disk here
                if any(name in f"{type(error).__name__} {error}" for name in NEVER) or isinstance(error, FileNotFoundError):
                    raise StorageUnavailable(f"{self.settings.url}: {doing} cannot work: {_words(error)}") from error
                if time.monotonic() + wait > end:
                    raise StorageUnavailable(
                        f"{self.settings.url} did not answer for {self.settings.patience_s:.0f} s ({doing}: {_words(error)}). "
                        "What was copied stays; do the same again when it answers."
                    ) from error
                log.warning("%s: %s; again in %.1f s", doing, _words(error), wait)
                self._made = None  # its connections may be dead
                time.sleep(wait)
                wait = min(LONGEST_WAIT_S, wait * 2)


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else 'no reason given'}"
