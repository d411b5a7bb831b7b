"""RLHF Workbench: ``streamlit run app.py``. The ASGI app: frame script, routes, and a lifespan that starts the supervisor.

A door. Pages live in ``pages/`` and are run by ``pages/frame.py`` on every rerun, so that a deep link into a cold server
passes the frame as well.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.services.workbench import Workbench
from rlhf_core.supervisor.supervise import Supervisor

COLLECT_EVERY_S = 30.0


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Import what pages need, then supervise runs and collect garbage in the background until the server stops."""
    import altair  # noqa: F401  # here, so that no visitor waits for these imports
    import duckdb  # noqa: F401
    import pandas  # noqa: F401

    gc.collect()
    gc.freeze()
    stop = threading.Event()
    threads = [threading.Thread(target=_collect_garbage, args=(stop,), name="garbage", daemon=True)]
    try:
        workbench = Workbench.open()
    except RlhfError as error:
        logging.getLogger("rlhf_core").error("%s", error)  # every page shows it too
    else:
        supervisor = Supervisor(workbench.workspace, workbench.ledger)
        threads.append(threading.Thread(target=supervisor.serve, args=(stop,), name="supervisor", daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield {}
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=5)


def _collect_garbage(stop: threading.Event) -> None:
    while not stop.wait(COLLECT_EVERY_S):
        gc.collect()


app = st.App("pages/frame.py", lifespan=lifespan)
