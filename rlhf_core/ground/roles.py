"""Who may do what in a team. The pages ask here; the database holds the same rules by itself (sql/supabase)."""

from __future__ import annotations

from typing import Literal

Role = Literal["annotator", "analyst", "engineer", "admin"]
Action = Literal["label", "explore", "compare", "import", "queues", "adjudicate", "train", "promote", "manage"]

ROLES: dict[Role, str] = {
    "annotator": "rates steps; sees every chat, and their own ratings only",
    "analyst": "rates, takes snapshots and explores them, settles disputes, compares checkpoints",
    "engineer": "does what an analyst does, imports chats, trains models and rolls them out",
    "admin": "does what an engineer does, gives roles, lets applications in, reads the log of who did what",
}
MANY: dict[Role, str] = {
    "annotator": "annotators", "analyst": "analysts", "engineer": "engineers", "admin": "administrators",
}  # fmt: skip
ALLOWED: dict[Action, frozenset[Role]] = {
    "label": frozenset({"annotator", "analyst", "engineer", "admin"}),
    "explore": frozenset({"analyst", "engineer", "admin"}),
    "compare": frozenset({"analyst", "engineer", "admin"}),
    "import": frozenset({"engineer", "admin"}),
    "queues": frozenset({"engineer", "admin"}),
    "adjudicate": frozenset({"analyst", "engineer", "admin"}),
    "train": frozenset({"engineer", "admin"}),
    "promote": frozenset({"engineer", "admin"}),
    "manage": frozenset({"admin"}),
}
DEEDS: dict[Action, str] = {
    "label": "rating",
    "explore": "looking into snapshots",
    "compare": "looking at checkpoints",
    "import": "importing",
    "queues": "keeping queues",
    "adjudicate": "settling disputes",
    "train": "training",
    "promote": "deciding which checkpoint serves",
    "manage": "managing the workbench (roles, applications, the log)",
}


def may(role: Role | None, action: Action) -> bool:
    return role is not None and role in ALLOWED[action]


def refusal(role: Role | None, action: Action) -> str:
    """What to tell somebody who may not."""
    names = [MANY[one] for one in ROLES if one in ALLOWED[action]]
    needed = f"{', '.join(names[:-1])} and {names[-1]}" if names[:-1] else names[-1]
    mine = f"Your role is {role}" if role else "You have no role yet"
    return f"{mine}; {DEEDS[action]} is for {needed}. Ask an administrator of your team."
