"""What runs on a node of a Slurm cluster, inside submitit: the command line, which hears the signals that its job gets. Slurm
signals the job's own process alone where it tracks them by cgroups, and submitit keeps what it hears to itself. Standard library
only."""

import signal
import subprocess
import sys
from typing import Any


def carry_out(argv: list[str]) -> int:
    """Run it. The first signal that asks the job to end, its time limit's among them, asks the command to end, once.

    Raises:
        RuntimeError: it ended with another code than 0.
    """
    child = subprocess.Popen(argv)
    told = False

    def tell(number: int, _frame: Any) -> None:
        nonlocal told
        print(f"asked to end by {signal.Signals(number).name}", file=sys.stderr, flush=True)
        if not told:
            told = True
            child.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, tell)
    code = child.wait()
    if code:
        raise RuntimeError(f"the run ended with code {code}")
    return code
