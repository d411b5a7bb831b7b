"""Rate the reasoning steps of one chat after another, on the pad."""

from rlhf_core.ui import pad

pad.page("Label", "rate")
