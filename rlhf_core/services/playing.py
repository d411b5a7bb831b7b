"""Talk to policies and endpoints, two side by side: answers as they are written, rewards of each step as it is done, and what was
seen kept as chats, ratings and preferences.

Threads write, one a side, and the page looks on. When nobody looks any more (the browser was closed), they stop.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.ground import settings
from rlhf_core.ground.answers import Answer
from rlhf_core.ground.errors import InvalidInput, NotFound, RlhfError
from rlhf_core.ground.records import LabelOp, Session, Verdict, new_id
from rlhf_core.ground.text import step_prefixes
from rlhf_core.inference import endpoint
from rlhf_core.intake.splitting import split_answer
from rlhf_core.services import comparing, importing, scoring
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.workbench import Workbench

SOURCE = "playground"  # of chats that were kept
UNSEEN_S = 15.0  # after which nobody is taken to look on
MOST_TOKENS = 4096
LOOK_S = 0.25  # at most between two looks at what is written
Kind = Literal["policy", "endpoint"]


TINY_BYTES = 50 * 2**20  # of a checkpoint's files: some ten million weights


class Voice(NamedTuple):
    """Who writes: a policy's checkpoint id, or the name of an endpoint. ``by``: how a policy was made: taught, ppo, dpo, ...;
    ``tiny``: so few weights that no sense is to be expected of it."""

    kind: Kind
    name: str
    by: str = ""
    tiny: bool = False

    @property
    def label(self) -> str:
        return f"{self.name} · {self.by}" if self.by else self.name


@dataclass(frozen=True, slots=True)
class Sampling:
    """How is written. ``temperature`` 0 takes the likeliest token each time; ``seed`` None: another one each time."""

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None

    def drawing(self, seed: int) -> dict[str, Any]:
        """What those that write take, by name."""
        return {"max_tokens": self.max_tokens, "temperature": self.temperature, "top_p": self.top_p, "seed": seed}

    def check(self) -> None:
        """
        Raises:
            InvalidInput: a value out of its range.
        """
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise InvalidInput(f"An answer has 1 to {MOST_TOKENS:,} tokens; got {self.max_tokens}.")
        if not 0 <= self.temperature <= 5 or not 0 < self.top_p <= 1:
            raise InvalidInput(
                f"A temperature is from 0 to 5 and top-p above 0 and up to 1; got {self.temperature}, {self.top_p}."
            )


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as far as it is written.

    ``rewards[label]``: in stars, of as many steps as are scored so far. ``whole``: of the whole answer, once it is at its end.
    ``ended``: the voice ended it itself; False: it had no tokens left; None: it is not at its end, was stopped, or failed.
    """

    voice: Voice
    text: str = ""
    steps: tuple[str, ...] = ()
    rewards: dict[str, tuple[float, ...]] = field(default_factory=dict)
    whole: dict[str, float] = field(default_factory=dict)
    writing: bool = True
    ended: bool | None = None
    stopped: bool = False
    error: str = ""
    unscored: dict[str, str] = field(default_factory=dict)
    pieces: int = 0
    first_s: float | None = None
    seconds: float = 0.0


def voices(workbench: Workbench) -> list[Voice]:
    """Policies of this workspace, newest first, and the endpoints that the operator named.

    Raises:
        InvalidInput: a setting of an endpoint is wrong.
    """
    workbench.require("compare")
    policies = list_checkpoints(workbench.workspace.checkpoints, "policy")
    return [
        *(
            Voice("policy", one.id, one.manifest["config"].get("optimiser", "taught"), one.size_bytes < TINY_BYTES)
            for one in policies
        ),
        *(Voice("endpoint", one.name, "endpoint") for one in settings.endpoints()),
    ]


class Exchange:
    """One question, answered by several voices at once. Thread-safe.

    Args:
        workbench: Whose models.
        query: The question.
        asked: Who answers; the same voice may be asked twice.
        how: How is written; each voice draws by a seed of its own.
        judges: Who rewards the steps.
        blind: Sides are shown in an order that is drawn, and who wrote which is said once one is preferred.
    """

    def __init__(
        self, workbench: Workbench, query: str, asked: Sequence[Voice], how: Sampling, judges: Sequence[Candidate] = (), *,
        blind: bool = False,
    ) -> None:  # fmt: skip
        workbench.require("compare")
        how.check()
        if not query.strip():
            raise InvalidInput("Type something to answer.")
        if not asked:
            raise InvalidInput("Choose who answers.")
        self.query, self.how, self.judges = query.strip(), how, [*judges]
        self.blind = blind
        self.order = random.sample(range(len(asked)), len(asked)) if blind else [*range(len(asked))]
        """In which order the sides are shown."""
        self.kept: dict[int, str] = {}
        """Ids of the chats that sides were kept as."""
        self.verdict: int | Literal["tie", "both_bad"] | None = None
        """The side that was preferred, or neither."""
        self._workbench, self._device = workbench, scoring.scoring_device(workbench)
        self._said = [Said(one) for one in asked]
        self._lock, self._changed = threading.Lock(), threading.Event()
        self._stop, self._seen = threading.Event(), time.monotonic()
        self._began = time.monotonic()
        first = how.seed if how.seed is not None else random.randrange(2**31)
        self.seeds = [first + k for k in range(len(asked))]
        self._threads = [threading.Thread(target=self._write, args=(k,), daemon=True) for k in range(len(asked))]
        for one in self._threads:
            one.start()

    @property
    def sides(self) -> list[Said]:
        """As far as they are written. Looking keeps them being written."""
        self._seen = time.monotonic()
        with self._lock:
            return [*self._said]

    @property
    def hidden(self) -> bool:
        """Whether who wrote which must not be said yet."""
        return self.blind and self.verdict is None

    @property
    def writing(self) -> bool:
        return any(one.writing for one in self.sides)

    @property
    def seconds(self) -> float:
        """Since it was asked."""
        return time.monotonic() - self._began

    def changed(self, at_most_s: float) -> None:
        """Wait until something is new, and at most so long."""
        self._changed.wait(at_most_s)
        self._changed.clear()

    def stop(self) -> None:
        """Stop writing, wherever it is. What is written stays; a side that has not begun is over at once."""
        self._stop.set()
        with self._lock:
            self._said = [one if one.text or not one.writing else replace(one, stopped=True, writing=False) for one in self._said]
        self._changed.set()

    def join(self, timeout_s: float) -> None:
        for one in self._threads:
            one.join(timeout_s)

    def _write(self, k: int) -> None:
        began = time.monotonic()
        try:
            tokens = self._tokens(k)
            with contextlib.closing(tokens):
                while True:
                    try:
                        piece = next(tokens)
                    except StopIteration as end:
                        self._note(k, ended=end.value)
                        break
                    now = time.monotonic()
                    one = self._said[k]
                    if not one.writing:  # it was stopped before it began
                        return
                    first_s = now - began if one.first_s is None else one.first_s
                    self._note(k, text=one.text + piece, pieces=one.pieces + 1, first_s=first_s, seconds=now - began)
                    if self._stop.is_set() or now - self._seen > UNSEEN_S:
                        self._note(k, stopped=True)
                        break
                    self._score_done(k)
            self._score_all(k)
        except RlhfError as error:
            self._note(k, error=str(error))
        except Exception as error:  # a bug: seen on the page and not lost with the thread
            self._note(k, error=f"{type(error).__name__}: {error}")
            raise
        finally:
            self._note(k, writing=False)

    def _tokens(self, k: int) -> Generator[str, None, bool]:
        voice, drawing = self._said[k].voice, self.how.drawing(self.seeds[k])
        if voice.kind == "policy":
            return self._workbench.scoring.stream(voice.name, self.query, **drawing, device=self._device)
        found = next((one for one in settings.endpoints() if one.name == voice.name), None)
        if found is None:
            raise NotFound(f"There is no endpoint {voice.name!r} in the settings any more.")
        return endpoint.stream(found, self.query, **drawing)

    def _note(self, k: int, **changes: object) -> None:
        with self._lock:
            one = replace(self._said[k], **changes)  # type: ignore[arg-type]
            if "text" in changes:
                steps = tuple(split_answer(one.text).steps)
                alike = next((at for at, (old, new) in enumerate(zip(one.steps, steps, strict=False)) if old != new), len(steps))
                # where more text shows that the steps are others, rewards of the former ones go
                one = replace(one, steps=steps, rewards={label: some[:alike] for label, some in one.rewards.items()})
            self._said[k] = one
        self._changed.set()

    def _score_done(self, k: int) -> None:
        """Reward the steps behind which another one has begun."""
        one = self._said[k]
        for judge in self._able(k):
            label = judge.label
            known = one.rewards.get(label, ())
            done = one.steps[:-1]
            if len(known) >= len(done):
                continue
            prefixes = step_prefixes(split_answer(one.text).response, done)
            answers = [Answer(self.query, prefixes[at], (done[at],)) for at in range(len(known), len(done))]
            (found,) = self._workbench.scoring.score([judge.ref], answers, device=self._device)
            if isinstance(found, RlhfError):
                self._note(k, unscored=self._said[k].unscored | {label: str(found)})
            else:
                self._note(k, rewards=self._said[k].rewards | {label: (*known, *(score.steps[0] for score in found))})

    def _score_all(self, k: int) -> None:
        """Reward the answer and its steps as Compare would."""
        one = self._said[k]
        able = self._able(k)
        if not one.steps or not able:
            return
        answer = Answer(self.query, split_answer(one.text).response, one.steps)
        scores, unscored = comparing.scores_of(self._workbench, able, [answer])
        rewards = {label: tuple(found.steps) for label, (found,) in scores.items()}
        whole = {label: found.whole for label, (found,) in scores.items()}
        self._note(k, rewards=rewards, whole=whole, unscored=one.unscored | unscored)

    def _able(self, k: int) -> list[Candidate]:
        return [one for one in self.judges if one.label not in self._said[k].unscored]


def keep(workbench: Workbench, exchange: Exchange, side: int) -> str:
    """Keep one side as a chat, to be labelled. Kept again it is the same chat. Returns its id.

    Raises:
        InvalidInput: it is blank.
        Forbidden: the person may not add chats.
    """
    workbench.require("import")
    if side in exchange.kept:
        return exchange.kept[side]
    one = exchange.sides[side]
    if not one.text.strip():
        raise InvalidInput("There is no answer to keep yet.")
    record = {"query": exchange.query, "response": one.text, "model": one.voice.name, "source": SOURCE}
    (exchange.kept[side],), _ = importing.add_chats(workbench, [record], SOURCE)
    return exchange.kept[side]


def prefer(workbench: Workbench, session: Session, exchange: Exchange, verdict: int | Literal["tie", "both_bad"]) -> None:
    """Keep both sides as chats, and which one this person prefers: a side, or neither.

    Raises:
        InvalidInput: there are not two different answers.
        Forbidden: the person may not add chats.
    """
    if len(exchange.sides) != 2:
        raise InvalidInput("A preference is between two answers.")
    ids = [keep(workbench, exchange, k) for k in (0, 1)]
    if ids[0] == ids[1]:
        raise InvalidInput("Both sides said the same: there is nothing to prefer. One chat was kept.")
    first, other = sorted(ids)
    said: Verdict = verdict if isinstance(verdict, str) else "chat" if ids[verdict] == first else "other"
    workbench.store.for_user(session).apply([
        LabelOp(new_id(), "prefer", first, None, {
            "other": other, "step": None, "aspect": "", "verdict": said, "strength": None, "left": ids[exchange.order[0]],
            "comment": "",
        })
    ])  # fmt: skip
    exchange.verdict = verdict


def watched(exchange: Exchange) -> Iterator[list[Said]]:
    """The sides again and again while they are written, and once more at their end."""
    while True:
        sides = exchange.sides
        yield sides
        if not any(one.writing for one in sides):
            return
        exchange.changed(LOOK_S)
