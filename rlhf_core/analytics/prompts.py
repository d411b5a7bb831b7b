"""Which queries of a snapshot a policy learns on, and which are kept to look at it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.configs import PPOConfig
from rlhf_core.ground.records import parse_utc
from rlhf_core.ground.text import query_key

EXAMPLES = (
    "What training programs are available for solar installation in Massachusetts?",
    "How can I translate my military experience to clean energy?",
    "Which jobs in offshore wind can I get without a degree?",
    "How do I become a heat pump installer in Boston?",
    "What do I need to know to work as an energy auditor?",
)
FEWEST_TO_HOLD_OUT = 10


@dataclass(frozen=True, slots=True)
class Prompts:
    """Queries to learn on and queries to look at; the same ones where there are few. ``examples``: there were none."""

    train: list[str]
    held_out: list[str]
    examples: bool = False


def read_prompts(snapshot: Snapshot | None, config: PPOConfig) -> Prompts:
    """Different queries of the snapshot's recent chats, in an order that a seed decides; five examples where there are none."""
    found: dict[str, str] = {}
    if snapshot is not None:
        since = parse_utc(snapshot.created_at) - timedelta(days=config.prompt_days)
        chats = snapshot.table("chats")
        for query, at in zip(chats["query"].to_pylist(), chats["created_at"].to_pylist(), strict=True):
            if query and query.strip() and at >= since:
                found.setdefault(query_key(query), query)
    if not found:
        return Prompts(list(EXAMPLES), list(EXAMPLES), examples=True)
    mixed = sorted(found, key=lambda key: hashlib.sha256(f"{config.seed}:{key}".encode()).digest())
    queries = [found[key] for key in mixed]
    if len(queries) < FEWEST_TO_HOLD_OUT:
        return Prompts(queries, queries[: config.evaluate_prompts])
    count = min(config.evaluate_prompts, len(queries) // 5)
    return Prompts(queries[count:], queries[:count])
