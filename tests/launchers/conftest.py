"""What tests of engines share."""

import sys
from collections.abc import Callable

import pytest

from rlhf_core.supervisor import elsewhere

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make an engine carry out this Python text instead of a training run."""

    def use_script(script: str) -> None:
        monkeypatch.setattr(elsewhere, "train_command", lambda run, root, python: [sys.executable, "-c", script])

    return use_script
