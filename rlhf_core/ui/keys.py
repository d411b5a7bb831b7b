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
PAD_AFTER = "label:pad_after"
PAD_AT = "label:pad_at"
PAD_CONTEXT = "label:pad_context"
PAD_DRAWN = "label:pad_drawn"
PAD_ITEMS = "label:pad_items"
PAD_OUTCOMES = "label:pad_outcomes"
PAD_PROGRESS = "label:pad_progress"
PAD_RUBRIC = "label:pad_rubric"
LABEL_PROBLEM = "label:problem"
AGREEMENT_VIEW = "agreement:view"
AGREEMENT_ON = "agreement:on"
AGREEMENT_BY = "agreement:by"
DISPUTE = "disputes:chosen"
QUEUE = "queues:chosen"
WORK_CHAT = "work:chat"
WORK_CONSENT = "work:consent"
SNAPSHOT_VIEW = "snapshots:view"
WORK_PAIR = "work:pair"
IMPORT_RESULT = "import:result"
COMPARE_CHAT = "compare:chat"
COMPARE_RESULT = "compare:result"
COMPARE_CHOSEN = "compare:chosen"
COMPARE_VIEW = "compare:view"
COMPARE_SET = "compare:set"
COMPARE_PART = "compare:part"
COMPARE_BEST = "compare:best_of"
COMPARE_WHY = "compare:why"
RUNS_VIEW = "runs:view"
RUNS_FOCUS = "runs:focus"
RUNS_SHOWN = "runs:shown"  # how many, at most
TRAIN_FORM = "train:form_open"
TRAIN_CHECKED = "train:checked"

URL_CHAT = "chat"
URL_OTHER = "other"
URL_QUEUE = "queue"
URL_RUN = "run"
URL_MODEL = "model"
URL_SNAPSHOT = "snapshot"
URL_TOPIC = "topic"
URL_OPEN = "open"
URL_FORM = "filter"
URL_AT = "at"
EXPLORE_TOPIC = "explore:topic"
SQL_TEXT = "sql:text"
SQL_RUNNING = "sql:running"
SQL_RESULT = "sql:result"
SQL_PROBLEM = "sql:problem"
SQL_QUEUE = "sql:queue"


def label_queue(task: str) -> str:
    return f"label:queue:{task}"


def explore_chart(name: str) -> str:
    return f"explore:chart:{name}"


def option(kind: str, name: str) -> str:
    return f"train:option:{kind}:{name}"


def role(user_id: str) -> str:
    return f"team:role:{user_id}"
