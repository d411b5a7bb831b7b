"""Names of things in the session and the URL: ``page:thing:id``. One place, so that no two pages use one key for two things."""

from __future__ import annotations

RATER = "session:rater"
RATER_CHOICE = "account:rater"
RATER_NEW = "account:new_person"
RATER_PROBLEM = "account:rater_problem"
SIGNED_IN = "session:signed_in"
LAST_PERSON = "session:last_person"
SIGNED_OUT = "session:signed_out"
TICKET = "session:ticket"
SIGN_IN_CHOICE = "sign_in:choice"
SIGN_IN_NOTICE = "sign_in:notice"
SIGN_IN_PROBLEM = "sign_in:problem"
FORGOT_EMAIL = "forgot:email"
TEAM_PROBLEM = "team:problem"
PAD = "label:pad"
PAD_ACKS = "label:pad_acks"
PAD_AT = "label:pad_at"
PAD_CONTEXT = "label:pad_context"
PAD_ITEMS = "label:pad_items"
PAD_OUTCOMES = "label:pad_outcomes"
PAD_PROGRESS = "label:pad_progress"
LABEL_QUEUE = "label:queue"
LABEL_PROBLEM = "label:problem"
QUEUE = "queues:chosen"
WORK_CHAT = "work:chat"
IMPORT_RESULT = "import:result"
COMPARE_CHAT = "compare:chat"
COMPARE_RESULT = "compare:result"
TRAIN_FORM = "train:form_open"

URL_CHAT = "chat"
URL_RUN = "run"
URL_SNAPSHOT = "snapshot"


def option(name: str) -> str:
    return f"train:option:{name}"


def role(user_id: str) -> str:
    return f"team:role:{user_id}"
