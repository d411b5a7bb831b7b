"""Rewards in stars as small coloured marks."""

from __future__ import annotations

import html
from collections.abc import Mapping

from rlhf_core.ground.text import shorten
from rlhf_core.ui.charts import colour_of_stars

LABEL = 28  # characters of a checkpoint's label


def badges(rewards: Mapping[str, float]) -> str:
    """HTML: one mark for each label, coloured as in a table."""
    return " ".join(
        f'<span title="{html.escape(label, quote=True)}: predicted stars" style="{colour_of_stars(value)}; '
        f'border-radius: 0.4rem; padding: 0.1rem 0.45rem; font-size: 0.85rem">{html.escape(shorten(label, LABEL))} '
        f"<b>{value:.2f}</b></span>"
        for label, value in rewards.items()
    )
