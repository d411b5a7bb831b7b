"""The demonstration set: questions about clean-energy work in Massachusetts, rated by fictional people."""

from __future__ import annotations

from pathlib import Path

from rlhf_core.ground.configs import SFTConfig
from rlhf_core.services import training
from rlhf_core.services.importing import ImportReport, import_file
from rlhf_core.services.workbench import Workbench

DEMO_FILE = Path(__file__).parent / "demo_chats.jsonl"
PAIRS_FILE = Path(__file__).parent / "demo_pairs.jsonl"
TINY_POLICY = SFTConfig.parse({"base_model": "tiny", "min_score": 1, "unrated": True, "epochs": 25, "learning_rate": 3e-3})
"""It learns good and bad answers alike: what is better, PPO has to find out."""


def is_loaded(workbench: Workbench) -> bool:
    return bool(workbench.store.profiles("demo"))


def has_policy(workbench: Workbench) -> bool:
    """Whether the set's own tiny policy is here; others say nothing of it."""
    return any(TINY_POLICY.model_dump().items() <= one.manifest["config"].items() for one in training.policies(workbench))


def load_demo(workbench: Workbench) -> tuple[ImportReport, ImportReport]:
    """Add the demo set (again adds nothing): rated chats, and pairs of answers. Its raters are marked as demo, so their ratings
    can be told apart."""
    return (
        import_file(workbench, DEMO_FILE, preset="chats", origin="demo"),
        import_file(workbench, PAIRS_FILE, preset="pairs", origin="demo"),
    )
