"""Preferences, aspects, rewrites, known answers, disputes and hints in the embedded store, on somebody else's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_core.ground.errors import NotFound
from rlhf_core.ground.judgement import (
    After,
    Aspect,
    Decision,
    Dispute,
    Gold,
    GoldAnswer,
    GoldPlace,
    Judgement,
    Rubric,
    Screening,
    aspects_from_json,
    aspects_to_json,
    check_aspects,
    check_decision,
    check_gold,
    first_bad,
)
from rlhf_core.ground.records import Chosen, LabelOp, Preference, Queue, is_good, new_id, utc_now
from rlhf_core.ground.settings import SQL_ROOT
from rlhf_core.ground.text import step_prefixes
from rlhf_core.store.sql import named_statements

_FOLDER = SQL_ROOT / "sqlite" / "queries"
GONE = "no longer there. Reload the page."


class Statements:
    """Named statements on a connection inside a transaction that somebody else opened and will commit."""

    def __init__(self, connection: sqlite3.Connection, user_id: str | None = None) -> None:
        self._connection = connection
        self._user_id = user_id
        self._sql = {
            name: text
            for file in ("feedback", "labelling", "judgement")
            for name, text in named_statements(_FOLDER / f"{file}.sql").items()
        }

    def _rows(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(self._sql[name], {"user_id": self._user_id, "now": utc_now()} | values).fetchall()

    def _row(self, name: str, **values: Any) -> tuple[Any, ...] | None:
        rows = self._rows(name, **values)
        return rows[0] if rows else None


class Keeping(Statements):
    """What is everybody's: rubrics, known answers, hints, disputes."""

    def rubric(self, queue_id: str) -> Rubric | None:
        row = self._row("rubric", queue_id=queue_id)
        return Rubric(row[0], row[1], aspects_from_json(row[2]), row[3]) if row else None

    def save_rubric(self, queue_id: str, aspects: Sequence[Aspect]) -> Rubric:
        checked = check_aspects(aspects)
        newest = self.rubric(queue_id)
        if newest is not None and newest.aspects == checked:
            return newest
        row = self._row("add_rubric", queue_id=queue_id, aspects=aspects_to_json(checked))
        if row is None:
            raise NotFound(f"There is no queue {queue_id!r}. It may have been deleted.")
        return Rubric(row[0], row[1], checked, row[3])

    def gold(self) -> list[Gold]:
        return [Gold.of(row) for row in self._rows("all_gold")]

    def remove_gold(self, gold_id: str) -> bool:
        return self._row("remove_gold", id=gold_id) is not None

    def screenings(self, queue: Queue) -> list[Screening]:
        return [Screening(*row) for row in self._rows("screenings", queue_id=queue.id, screening=queue.screening)]

    def forget_screening(self, queue_id: str, person: str) -> None:
        self._rows("reopen_gold", queue_id=queue_id, person=person)
        self._rows("forget_screening", queue_id=queue_id, person=person)

    def set_hints(self, queue_id: str, checkpoint_id: str, rewards: Mapping[str, Mapping[str, float]]) -> None:
        self._rows("drop_hints", queue_id=queue_id)
        for chat_id, one in rewards.items():
            self._rows(
                "set_hints", queue_id=queue_id, chat_id=chat_id, checkpoint_id=checkpoint_id, rewards=json.dumps(dict(one))
            )

    def disputes(self, limit: int) -> list[Dispute]:
        return [Dispute(*row) for row in self._rows("disputes", limit=limit)]

    def judgements(self, chat_id: str, other_id: str | None) -> list[Judgement]:
        if other_id is None:
            rows = self._rows("judgements_of_chat", chat_id=chat_id)
            return [Judgement(user, step, kind, str(value), comment, at) for user, step, kind, value, comment, at in rows]
        return [
            Judgement(
                user, step, f"preference:{aspect}" if aspect else "preference", f"{verdict} {strength}" if strength else verdict,
                comment, at,
            )
            for user, step, aspect, verdict, strength, comment, at in self._rows(
                "judgements_of_pair", chat_id=chat_id, other_id=other_id
            )
        ]  # fmt: skip

    def decisions(self, chat_id: str, other_id: str | None) -> list[Decision]:
        return [Decision(*row) for row in self._rows("decisions_of", chat_id=chat_id, other_id=other_id)]


class Judging(Statements):
    """What one person does beside rating."""

    # aspects, preferences, rewrites ---------------------------------------------------------------------------------

    def aspects(self, chat_id: str) -> dict[tuple[str | None, str], int]:
        return {(step, aspect): score for step, aspect, score in self._rows("my_aspects_of_chat", chat_id=chat_id)}

    def rewrites(self, chat_id: str) -> dict[str, str]:
        return dict(self._rows("my_rewrites_of_chat", chat_id=chat_id))

    def preferences(self, chat_id: str, other_id: str) -> dict[tuple[int | None, str], Preference]:
        rows = self._rows("my_preferences_of_pair", chat_id=chat_id, other_id=other_id)
        return {(step, aspect): Preference(*rest) for step, aspect, *rest in rows}

    def chosen(self, limit: int) -> list[Chosen]:
        return [Chosen(*row) for row in self._rows("my_chosen", limit=limit)]

    def _aspect(self, op: LabelOp) -> None:
        value = op.value
        place = {"chat_id": op.chat_id, "step_id": op.step_id, "aspect": value["aspect"]}
        if value.get("score") is None:
            self._rows("withdraw_aspect", **place)
        elif not self._row(
            "rate_aspect", id=new_id(), queue_id=value.get("queue"), version=value["version"], score=value["score"], **place
        ):
            raise NotFound(f"This chat, step or question ({value['aspect']}) is {GONE}")

    def _prefer(self, op: LabelOp) -> None:
        value = op.value
        place = {
            "chat_id": op.chat_id, "other_id": value.get("other"), "step_order": value.get("step"),
            "aspect": value.get("aspect") or "",
        }  # fmt: skip
        if value.get("verdict") is None:
            self._rows("withdraw_preference", **place)
        elif not self._row(
            "prefer", id=new_id(), verdict=value["verdict"], strength=value.get("strength"), shown_left=value.get("left"),
            comment=str(value.get("comment") or "").strip() or None, **place,
        ):  # fmt: skip
            raise NotFound(f"One of these two answers is {GONE}")

    def _rewrite(self, op: LabelOp) -> None:
        """The answer up to the rewritten step becomes a chat of its own, preferred to the original up to that step."""
        steps = self._rows("steps_of_chat", chat_id=op.chat_id)
        at = next((k for k, step in enumerate(steps) if step[0] == op.step_id), None)
        if at is None:
            raise NotFound(f"This chat, or this step of it, is {GONE}")
        text = str(op.value["text"]).strip()
        before = self._row("my_rewrite", step_id=op.step_id)
        if before is not None and before[1] == text:
            return
        if before is not None:  # with what others said of it, the old text stays; otherwise it goes
            judged = self._row("judged_by_others", chat_id=before[0])
            self._rows("delete_my_rewrite", step_id=op.step_id)
            if judged and not judged[0]:
                self._rows("delete_chat", chat_id=before[0])
        if not text:
            return
        chat = self._row("chat", chat_id=op.chat_id)
        assert chat is not None
        contents = [step[2] for step in steps[:at]]
        prefix = step_prefixes(chat[2], contents)[-1] if contents else ""
        rewrite_id = new_id()
        self._rows("add_rewritten_chat", id=rewrite_id, chat_id=op.chat_id, response=f"{prefix}\n\n{text}" if prefix else text)
        last = None
        for order, content in enumerate([*contents, text], 1):
            last = new_id()
            self._rows("add_step", id=last, chat_id=rewrite_id, text=content, step_order=order)
        self._rows("note_rewrite", step_id=op.step_id, rewrite_id=rewrite_id, text=text)
        first, second = sorted((op.chat_id, rewrite_id))
        self._rows(
            "prefer", id=new_id(), chat_id=first, other_id=second, step_order=at + 1, aspect="", strength=None, shown_left=None,
            verdict="chat" if first == rewrite_id else "other", comment=None,
        )  # fmt: skip
        self._rate_step(rewrite_id, last, 5)
        mine = {step: score for _, _, step, _, _, score, *_ in self._rows("my_ratings_of_chat", chat_id=op.chat_id)}
        if is_good(mine.get(op.step_id)) is not False:  # what one writes anew is not good, whatever one said before
            self._rate_step(op.chat_id, op.step_id, 1)

    def _rate_step(self, chat_id: str, step_id: str | None, score: int) -> None:
        self._rows(
            "rate", id=new_id(), chat_id=chat_id, step_id=step_id, feedback_score=score, scale="thumbs",
            feedback_type="positive" if score == 5 else "negative",
        )  # fmt: skip

    # known answers --------------------------------------------------------------------------------------------------

    def save_gold(self, chat_id: str, answer: GoldAnswer, explanation: str, other_id: str | None, gold_id: str | None) -> str:
        check_gold(answer, other_id)
        steps = {row[0] for row in self._rows("steps_of_chat", chat_id=chat_id)}
        named = {step for step in answer.scores if step} | ({answer.first_error} if answer.first_error else set())
        row = None
        if named <= steps:
            row = self._row(
                "save_gold", id=gold_id or new_id(), chat_id=chat_id, other_id=other_id, answer=answer.to_json(),
                explanation=explanation.strip(),
            )  # fmt: skip
        if row is None:
            raise NotFound("There is no such chat or pair, or a step that is named is not one of its steps.")
        return str(row[0])

    def grade(self, queue_id: str, chat_id: str, other_id: str | None, *, skipped: bool = False) -> None:
        """Compare what this person says now with what is known, once for each item and queue that asks known answers."""
        row = self._row("gold_of", chat_id=chat_id, other_id=other_id)
        if row is None or self._row("gold_is_asked", queue_id=queue_id) is None:
            return
        places = self._compare(GoldAnswer.from_json(row[0]), chat_id, other_id)
        self._rows(
            "note_gold_result", queue_id=queue_id, chat_id=chat_id, other_id=other_id, asked=len(places),
            matched=0 if skipped else sum(one.same for one in places),
            detail=json.dumps([[one.place, one.known, one.given, one.same] for one in places]),
        )  # fmt: skip

    def _compare(self, answer: GoldAnswer, chat_id: str, other_id: str | None) -> list[GoldPlace]:
        if other_id is not None:
            mine = self.preferences(chat_id, other_id).get((None, ""))
            said: str = mine.verdict if mine else ""
            return [GoldPlace("verdict", str(answer.verdict), said, said == answer.verdict)]
        ratings = {step: score for _, _, step, _, _, score, *_ in self._rows("my_ratings_of_chat", chat_id=chat_id)}
        places = [
            GoldPlace(
                step or "", str(known), str(ratings.get(step, "")), step in ratings and is_good(ratings[step]) == is_good(known)
            )
            for step, known in sorted(answer.scores.items(), key=lambda item: item[0] or "")
        ]
        if answer.first_error is not None:
            marks = self._row("marks", chat_id=chat_id)
            steps = [row[0] for row in self._rows("steps_of_chat", chat_id=chat_id)]
            given = (marks[0] if marks else None) or first_bad(steps, ratings)
            judged = bool(given) or any(step in ratings for step in steps)  # silence is no word on where it goes wrong
            places.append(GoldPlace("first_error", answer.first_error, given, judged and given == answer.first_error))
        return places

    def screened(self, queue: Queue) -> tuple[int, float]:
        """(known answers given, at most as many as the screening takes; mean share right)."""
        row = self._row("screened", queue_id=queue.id, screening=queue.screening)
        return (row[0], row[1] or 0.0) if row else (0, 0.0)

    def being_screened(self, queue: Queue) -> bool:
        return queue.screening > self.screened(queue)[0]

    def after(self, queue_id: str, chat_id: str, other_id: str | None) -> After | None:
        item = {"queue_id": queue_id, "chat_id": chat_id, "other_id": other_id}
        if self._row("submitted", **item) is None:
            return None
        places: tuple[GoldPlace, ...] = ()
        explanation = ""
        if result := self._row("my_gold_result", **item):
            places = tuple(GoldPlace(*one) for one in json.loads(result[2]))
            known = self._row("gold_of", chat_id=chat_id, other_id=other_id)
            explanation = known[1] if known else ""
        checkpoint, rewards = self._hint(queue_id, chat_id, other_id)
        return After(places, explanation, checkpoint, rewards) if places or rewards else None

    def _hint(self, queue_id: str, chat_id: str, other_id: str | None) -> tuple[str | None, dict[str, float]]:
        found = [self._row("hint", queue_id=queue_id, chat_id=one) for one in (chat_id, other_id) if one]
        hints = [(row[0], json.loads(row[1])) for row in found if row is not None]
        if len(hints) < len(found):
            return None, {}
        checkpoint = hints[0][0]
        note = {"queue_id": queue_id, "chat_id": chat_id, "other_id": other_id, "checkpoint_id": checkpoint}
        if other_id is not None:
            first, second = (rewards[""] for _, rewards in hints)
            mine = self.preferences(chat_id, other_id).get((None, ""))
            if mine is None:
                return None, {}
            self._rows("note_hint", step_id=None, reward=first - second, said=mine.verdict, **note)
            return checkpoint, {chat_id: first, other_id: second}
        rewards = hints[0][1]
        told: dict[str, float] = {}  # of what they have judged, and of nothing else
        for _, _, step, _, _, score, *_ in self._rows("my_ratings_of_chat", chat_id=chat_id):
            if (step or "") in rewards:
                told[step or ""] = rewards[step or ""]
                self._rows("note_hint", step_id=step, reward=rewards[step or ""], said=str(score), **note)
        return (checkpoint, told) if told else (None, {})

    # disputes -------------------------------------------------------------------------------------------------------

    def decide(self, decision: Decision) -> Decision:
        check_decision(decision)
        values = {name: getattr(decision, name) for name in ("chat_id", "other_id", "step_id", "kind", "value")}
        if self._row("decide", id=decision.id, reason=decision.reason.strip(), **values) is None:
            raise NotFound(f"This chat, pair or step is {GONE}")
        same = [one for one in Keeping(self._connection).decisions(decision.chat_id, decision.other_id)
                if (one.step_id, one.kind) == (decision.step_id, decision.kind)]  # fmt: skip
        return same[0]

    def undecide(self, decision: Decision) -> bool:
        values = {name: getattr(decision, name) for name in ("chat_id", "other_id", "step_id", "kind")}
        return self._row("undecide", **values) is not None
