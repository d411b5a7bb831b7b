"""Fix an answer from its first error on: other next steps by a policy or by hand, going on from the chosen one, and the branch
kept as step ratings and preference pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlhf_core.ground.answers import Answer
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.records import LabelOp, Session, check_score, is_good, new_id
from rlhf_core.ground.text import step_prefixes
from rlhf_core.intake.splitting import split_answer
from rlhf_core.services import comparing, importing, scoring
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.playing import Sampling
from rlhf_core.services.workbench import Workbench

SOURCE = "branch"  # of chats that began as another one
MOST = 16  # alternatives at once
REJECTED, CHOSEN = 1, 5  # stars of the step that is replaced, and of the one that replaces it, where nobody said otherwise


@dataclass(frozen=True, slots=True)
class Start:
    """An answer, and its step that is to be replaced: ``at`` counts from 0. ``model``: who wrote it."""

    query: str
    response: str
    steps: tuple[str, ...]
    at: int
    model: str | None = None

    @property
    def begun(self) -> str:
        """The answer up to that step, with what numbers it; it ends without blanks, so that a policy writes its own."""
        prefixes = step_prefixes(self.response, self.steps[: self.at + 1])
        if self.response.startswith(prefixes[-1]):
            return prefixes[-1][: -len(self.steps[self.at])].rstrip(" ")
        return "".join(f"{step}\n\n" for step in self.steps[: self.at])

    def with_step(self, text: str) -> Answer:
        """The answer as far as another step in that place."""
        begun = self.begun
        gap = "" if not begun or begun[-1].isspace() else " "
        return Answer(self.query, f"{begun}{gap}{text.strip()}", (*self.steps[: self.at], text.strip()))


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another step. ``model`` None: a person's own words. ``rewards`` in stars by label."""

    text: str
    model: str | None
    rewards: dict[str, float] = field(default_factory=dict)


def of_text(query: str, text: str, order: int, model: str | None) -> Start:
    """An answer as it was written, and its step of this place, counted from 1."""
    split = split_answer(text)
    return Start(query, split.response, tuple(split.steps), order - 1, model)


def of_chat(workbench: Workbench, chat_id: str, order: int) -> Start:
    """
    Raises:
        NotFound: no such chat.
        InvalidInput: it has no such step (counted from 1).
    """
    chat = workbench.store.chat(chat_id)
    if not 1 <= order <= len(chat.steps):
        raise InvalidInput(f"This chat has {len(chat.steps)} steps; {order} is none of them.")
    return Start(chat.query, chat.response, tuple(step.step_content for step in chat.steps), order - 1, chat.model)


def propose(
    workbench: Workbench, start: Start, policy: str, count: int, how: Sampling, judges: Sequence[Candidate] = ()
) -> tuple[list[Alternative], dict[str, str]]:  # fmt: skip
    """Other steps in that place, each different, the best by the first judge first; and by label why a judge says nothing.

    Raises:
        InvalidInput: too many are asked for, or the policy found nothing new to say.
        RlhfError: the policy cannot be loaded.
    """
    workbench.require("compare")
    how.check()
    if not 1 <= count <= MOST:
        raise InvalidInput(f"{count} alternatives were asked for; 1 to {MOST} can be.")
    given = workbench.scoring.write(
        policy, start.query, count, **how.drawing(how.seed or 0), begun=start.begun, device=scoring.scoring_device(workbench)
    )
    texts = dict.fromkeys(step for text, _ in given if (step := first_step(start, text)) and step != start.steps[start.at])
    if not texts:
        raise InvalidInput(
            "The policy found nothing else to say here. Raise the temperature or the number, or write it yourself."
        )
    scores, unscored = comparing.scores_of(workbench, judges, [start.with_step(text) for text in texts])
    listed = [
        Alternative(text, policy, {label: some[k].steps[-1] for label, some in scores.items()}) for k, text in enumerate(texts)
    ]
    if (first := next(iter(scores), None)) is not None:
        listed.sort(key=lambda one: -one.rewards[first])
    return listed, unscored


def first_step(start: Start, written: str) -> str:
    """Of what a policy wrote behind :attr:`Start.begun`, the step that stands in the place."""
    steps = split_answer(start.begun + written).steps
    if steps[: start.at] == list(start.steps[: start.at]) and len(steps) > start.at:
        return steps[start.at]
    alone = split_answer(written.strip()).steps
    return alone[0] if alone else ""


def go_on(workbench: Workbench, start: Start, chosen: str, policy: str | None, how: Sampling) -> Answer:
    """The answer with another step in that place, and what a policy writes behind it; with None it ends there.

    Raises:
        InvalidInput: the step is blank or what it was before, or all is too long for the policy.
        RlhfError: the policy cannot be loaded.
    """
    workbench.require("compare")
    how.check()
    if not chosen.strip():
        raise InvalidInput("Choose a step, or write one.")
    if chosen.strip() == start.steps[start.at].strip():
        raise InvalidInput("This is the step that was there. Choose another one.")
    until = start.with_step(chosen)
    if policy is None:
        return until
    ((more, _),) = workbench.scoring.write(
        policy, start.query, 1, **how.drawing(how.seed or 0), begun=until.response, device=scoring.scoring_device(workbench)
    )
    response = until.response + more
    steps = split_answer(response).steps
    if tuple(steps[: len(until.steps)]) == until.steps:
        return Answer(start.query, response, tuple(steps))
    return Answer(start.query, response, (*until.steps, *split_answer(more.strip()).steps))


def keep(
    workbench: Workbench, session: Session, start: Start, chosen: Alternative, branch: Answer,
    ratings: Mapping[str, int] | None = None, chat_id: str | None = None,
) -> str:  # fmt: skip
    """Keep a branch, the answer it left, and every alternative that was rated: as chats, with this person's ratings of the steps
    in that place and, at that step, their preferences of the chosen one. Kept again, no chat is added.

    Args:
        start: What it left.
        chosen: The step that was gone on from.
        branch: From :func:`go_on`.
        ratings: Stars of steps in that place, by their text: of the alternatives and of the original one. The chosen one counts
            5 stars and the original one 1 where nothing is said of them; other alternatives without stars are not kept.
        chat_id: The chat that ``start`` is; None: it becomes one.

    Returns:
        The id of the branch's chat.

    Raises:
        InvalidInput: stars that are none, or the chosen step has fewer than one it is to replace.
        Forbidden: the person may not add chats.
    """
    replaced = start.steps[start.at]
    stars = {text.strip(): check_score(score) for text, score in (ratings or {}).items()}
    stars = {replaced.strip(): REJECTED, chosen.text.strip(): CHOSEN} | stars
    best = stars[chosen.text.strip()]
    if stars[replaced.strip()] >= best:
        raise InvalidInput("The step that you chose has no more stars than the one it replaces. Change one of the two.")
    others = [text for text in stars if text not in (replaced.strip(), chosen.text.strip())]
    records = [
        {"query": start.query, "response": branch.response, "steps": [*branch.steps], "model": chosen.model},
        *(
            {"query": start.query, "response": one.response, "steps": [*one.steps], "model": chosen.model}
            for one in map(start.with_step, others)
        ),
    ]
    if chat_id is None:
        records.append({"query": start.query, "response": start.response, "steps": [*start.steps], "model": start.model})
    (branch_id, *ids), _ = importing.add_chats(workbench, records, SOURCE)
    original_id = chat_id or ids.pop()
    user = workbench.store.for_user(session)
    ops: list[LabelOp] = []
    for one, text in ((branch_id, chosen.text), (original_id, replaced), *zip(ids, others, strict=True)):
        step = workbench.store.chat(one).steps[start.at]
        before = user.ratings(one).get(step.id)
        said = text.strip() in {given.strip() for given in ratings or {}}
        kept = before is not None and not said and is_good(before.feedback_score) == is_good(stars[text.strip()])
        if not kept:  # what one said of it before, and what it now says alike, stays
            ops.append(LabelOp(new_id(), "rate", one, step.id, {"score": stars[text.strip()], "scale": "stars"}))
    wrong = workbench.store.chat(original_id).steps[start.at]
    if stars[replaced.strip()] <= 2:
        ops.append(LabelOp(new_id(), "first_error", original_id, wrong.id))
    for one, text in ((original_id, replaced), *zip(ids, others, strict=True)):
        if stars[text.strip()] < best:
            first, second = sorted((branch_id, one))
            ops.append(LabelOp(new_id(), "prefer", first, None, {
                "other": second, "step": start.at + 1, "aspect": "", "verdict": "chat" if first == branch_id else "other",
                "strength": None, "left": None, "comment": "",
            }))  # fmt: skip
    refused = [why for why in user.apply(ops).values() if why]  # all at once, or what is wrong with which
    if refused:
        raise InvalidInput(f"The answers are kept, and not all that you said of them: {' '.join(dict.fromkeys(refused))}")
    return branch_id
