"""Choose between two answers to one question, pair after pair, on the pad."""

from rlhf_core.ui import pad

pad.page("Prefer", "choose")
