"""The depot of the settings, and what erasing somebody does there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rlhf_core.depot.depot import Depot
from rlhf_core.ground.depots import DepotSettings, depot_settings
from rlhf_core.ground.errors import NotFound
from rlhf_core.services.workbench import Workbench


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
    """
    if settings() is None:
        yield lambda _: None
        return
    there, home = open_depot(), workbench.workspace.snapshots
    ids = [one.id for one in there.listing("snapshots")]
    brought = [one for one in ids if not (home / one).is_dir()]
    try:
        for one in brought:
            there.pull("snapshots", one, home)

        def replace(rewritten: Sequence[tuple[str, str]]) -> None:
            for old, new in rewritten:
                if old in ids:
                    if (home / new).is_dir():
                        there.push("snapshots", home / new)
                    there.remove("snapshots", old)

        yield replace
    finally:
        for one in brought:
            shutil.rmtree(home / one, ignore_errors=True)
