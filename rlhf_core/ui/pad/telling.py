"""What the pad says of an item after it was submitted: its known answer, and what a checkpoint thinks of it."""

from __future__ import annotations

import hashlib
from typing import Any

from rlhf_core.ground.judgement import After, GoldPlace
from rlhf_core.ground.records import LabelView, is_good
from rlhf_core.ui.render import safe_html

VERDICTS = {"tie": "equal", "both_bad": "both bad", "": "not chosen"}
_GOOD = {True: "good", False: "bad", None: "in between"}


def stands_left(user_id: str, chat_id: str, other_id: str) -> str:
    """Which of two answers this person sees on the left: drawn by lot, and the same whenever they look again."""
    lot = hashlib.sha256(f"{user_id}:{chat_id}:{other_id}".encode()).digest()[0]
    return chat_id if lot % 2 else other_id


def telling(after: After, view: LabelView, user_id: str, op_id: str) -> dict[str, Any]:
    """For the pad: a title and tables of words."""
    tables = []
    if after.places:
        rows = [_gold_row(one, view, user_id) for one in after.places]
        tables.append({"heads": ["known", "you"], "rows": rows})
    right = sum(one.same for one in after.places)
    title = f"This one had a known answer: you were right on {right} of {len(after.places)}." if after.places else ""
    if after.rewards:
        title = title or "What the checkpoint thinks of the one you submitted"
        tables.append({"heads": [f"checkpoint {after.checkpoint_id}", "you"], "rows": _hint_rows(after, view, user_id)})
    return {
        "op": op_id, "chat": view.chat.id, "other": view.other.id if view.other else None, "title": title, "tables": tables,
        "explanation": safe_html(after.explanation) if after.explanation.strip() else "",
    }  # fmt: skip


def _place(step_id: str, view: LabelView) -> str:
    order = next((step.step_order for step in view.chat.steps if step.id == step_id), None)
    return f"Step {order}" if order else "The whole answer"


def _verdict(verdict: str, view: LabelView, user_id: str) -> str:
    if verdict in VERDICTS or view.other is None:
        return VERDICTS.get(verdict, verdict)
    left = stands_left(user_id, view.chat.id, view.other.id)
    better = view.chat.id if verdict == "chat" else view.other.id
    return "A is better" if better == left else "B is better"


def _gold_row(one: GoldPlace, view: LabelView, user_id: str) -> dict[str, Any]:
    if one.place == "verdict":
        return {
            "title": "Which is better",
            "cells": [_verdict(text, view, user_id) for text in (one.known, one.given)],
            "same": one.same,
        }
    if one.place == "first_error":
        cells = [_place(text, view) if text else "none" for text in (one.known, one.given)]
        return {"title": "First error", "cells": cells, "same": one.same}
    given = f"{one.given} of 5" if one.given else "not rated"
    return {"title": _place(one.place, view), "cells": [_GOOD[is_good(int(one.known))], given], "same": one.same}


def _hint_rows(after: After, view: LabelView, user_id: str) -> list[dict[str, Any]]:
    if view.other is not None:
        left = stands_left(user_id, view.chat.id, view.other.id)
        right = view.other.id if left == view.chat.id else view.chat.id
        mine = view.preferences.get((None, ""))
        thinks = f"A {after.rewards[left]:.2f}, B {after.rewards[right]:.2f} stars"
        return [{"title": "All in all", "cells": [thinks, _verdict(mine.verdict if mine else "", view, user_id)]}]
    places = [*(step.id for step in view.chat.steps), ""]
    return [
        {
            "title": _place(place, view),
            "cells": [f"{after.rewards[place]:.2f} stars", f"{view.ratings[place or None].feedback_score} of 5"],
        }
        for place in places
        if place in after.rewards and (place or None) in view.ratings
    ]
