"""The depot of the settings, and what erasing somebody does there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rlhf_core.depot.depot import PULLING, Depot
from rlhf_core.ground.depots import DepotSettings, depot_settings
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.files import read_json, write_json
from rlhf_core.services.workbench import Workbench

USED_FILE = "depot.json"  # of the workspace: which depot has copies of it
INCOMING = ".incoming"  # of snapshots and checkpoints that are being fetched


def settings() -> DepotSettings | None:
    """Of the depot; None where none is set.

    Raises:
        InvalidInput: a setting is wrong.
    """
    try:
        return depot_settings()
    except NotFound:
        return None


def open_depot() -> Depot:
    """
    Raises:
        NotFound: none is set. InvalidInput: a setting is wrong.
    """
    return Depot(depot_settings())


@contextmanager
def with_depots_snapshots(workbench: Workbench) -> Iterator[Callable[[Sequence[tuple[str, str]]], None]]:
    """Inside, snapshots that only the depot has are here too, so that somebody can be taken out of them. Yields what is told
    which snapshots were rewritten, (old id, new id): those go from the depot, and what they became takes their place. Without a
    depot it does nothing. Broken off, it finds the old ones there again the next time.

    Raises:
        StorageUnavailable: the depot does not answer.
        InvalidInput: the workspace has copies in a depot that is not set here.
    """
    home = workbench.workspace.snapshots
    for broken_off in [*home.glob(f"{PULLING}*"), *(home / INCOMING).glob("*")]:  # fetches that nobody looks through
        shutil.rmtree(broken_off, ignore_errors=True)
    if settings() is None:
        if (note := workbench.workspace.root / USED_FILE).is_file():
            url = read_json(note, "The note of the depot").get("url")
            raise InvalidInput(
                f"This workspace has copies in {url}, and no depot is set here, so nobody could be erased there. Set it as "
                f"where the app runs, or, where it is gone, delete {note}."
            )
        yield lambda _: None
        return
    there = open_depot()
    for broken_off_there in there.unfinished("snapshots"):
        there.remove("snapshots", broken_off_there)
    ids = {one.id for one in there.listing("snapshots")}
    brought = [one for one in ids if not (home / one).is_dir()]
    try:
        for one in brought:
            there.pull("snapshots", one, home)

        def replace(rewritten: Sequence[tuple[str, str]]) -> None:
            for old, new in rewritten:
                if old in ids:
                    if (home / new).is_dir():
                        there.push("snapshots", home / new)
                        ids.add(new)
                    there.remove("snapshots", old)
                    ids.discard(old)

        yield replace
    finally:
        for one in brought:
            shutil.rmtree(home / one, ignore_errors=True)


def note_used(workbench: Workbench) -> None:
    """Erasing then does not forget it, wherever it is done."""
    write_json(workbench.workspace.root / USED_FILE, {"url": open_depot().settings.url})
