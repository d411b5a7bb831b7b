"""What a store promises. Small contracts, one per noun; ``tests/contract`` holds every backend to them.

Rules for all of them:

- Thread-safe: one object may be used from any number of threads, and several processes may open the same store.
- A write has been made durable when the call returns; when it raises, nothing of it was stored.
- A store never takes a person's id from a page: writing goes through :meth:`Store.for_user`, which is bound to a session.
- Identifiers are made by the client, so a retried write changes nothing.

Every method may raise :class:`~rlhf_core.ground.errors.StoreUnavailable` (locked too long, damaged, unreachable) and every
write :class:`~rlhf_core.ground.errors.StorageFull`. On a team's store every method may also raise
:class:`~rlhf_core.ground.errors.Forbidden` (not with this role) and :class:`~rlhf_core.ground.errors.SignInRequired`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from rlhf_core.ground.judgement import After, Aspect, Decision, Dispute, Gold, GoldAnswer, Judgement, Rubric, Screening
from rlhf_core.ground.records import (
    Change,
    Chat,
    Chosen,
    Consent,
    Feedback,
    LabelOp,
    LabelView,
    LogEntry,
    Origin,
    Profile,
    Queue,
    QueueProgress,
    Scale,
    Session,
    StoreCounts,
    Worked,
)
from rlhf_core.ground.rollout import ModelEvent, ModelKind, Served
from rlhf_core.ground.runs import LOCAL, Run, RunKind, RunLine, RunStatus, Sweep
from rlhf_core.ground.tables import Export


@dataclass(slots=True)
class BulkCounts:
    """What an import added. What was there already (same id, or a judgement its rater gave before) counts as ``known``."""

    chats: int = 0
    steps: int = 0
    ratings: int = 0
    known_chats: int = 0
    known_ratings: int = 0


class BulkWriter(Protocol):
    """Adds many rows inside one transaction. Row tuples have the columns named in each method, in that order."""

    def add_profiles(self, rows: Sequence[tuple[str, str]], origin: Origin) -> None:
        """(user_id, display_name)."""

    def add_chats(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """(id, query, response, source, model, external_id, created_at). A known id is left as it is."""

    def add_steps(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """(id, chat_id, step_content, step_order, created_at). A known id is left as it is."""

    def add_feedback(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """(id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment, created_at, updated_at).

        A person's existing judgement of the same thing is left as it is: a file never overwrites a change of mind.
        """

    def add_preferences(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """(id, chat_id, other_id, step_order, aspect, user_id, verdict, strength, shown_left, comment, created_at, updated_at).

        As with feedback, what a person has said already stays. Counts as ratings.
        """

    def add_aspect_ratings(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """(id, chat_id, step_id, user_id, queue_id, rubric_version, aspect, score, created_at, updated_at). As with feedback."""


class UserStore(Protocol):
    """Everything one person does. Bound to a session; reads and writes only that person's judgements."""

    def rate(self, chat_id: str, step_id: str | None, score: int, scale: Scale) -> Feedback:
        """Store or change this person's judgement of a step, or of the whole answer where ``step_id`` is None.

        Raises:
            InvalidInput: the score is not a whole number from 1 to 5.
            NotFound: no such chat, or the step is not one of this chat's.
        """

    def comment(self, chat_id: str, step_id: str | None, text: str) -> Feedback:
        """Attach words to a judgement already given; empty text removes them.

        Raises:
            InvalidInput: longer than 8,000 characters.
            NotFound: nothing was rated there yet.
        """

    def withdraw(self, chat_id: str, step_id: str | None) -> bool:
        """Take a judgement back. False if there was none."""

    def view(self, chat_id: str, other_id: str | None = None) -> LabelView:
        """A chat or a pair, and this person's judgements of it: all that it needs, in one round trip.

        Raises:
            NotFound: no such chat, or the two are no pair.
        """

    def chosen(self, limit: int = 50) -> list[Chosen]:
        """Pairs that this person has judged, the last first."""

    def ratings(self, chat_id: str) -> dict[str | None, Feedback]:
        """This person's judgements of one chat, by step id (None: the whole answer)."""

    def apply(self, ops: Sequence[LabelOp]) -> dict[str, str]:
        """What the label page sends: stored in order, in one transaction, each operation once however often it is sent.

        Returns:
            By operation id: "" if it was stored, else why it could not be. One that cannot be stops none of the others.
        """

    def claim(self, queue_id: str, count: int) -> list[LabelView]:
        """Up to ``count`` items for this person: those they hold, their leases renewed, and further ones in the queue's order.

        An item is handed to as many people as the queue's overlap says, and never twice to one; a lease that ran out frees it.
        Items with a known answer come first where the queue screens people, then among the others at its rate; everybody
        gets those, whatever the overlap, and nothing tells them from the rest.

        Raises:
            NotFound: no such queue, or it is closed.
            ScreeningFailed: this person's known answers were not right often enough.
        """

    def after(self, queue_id: str, chat_id: str, other_id: str | None = None) -> After | None:
        """What may be told of an item that this person has submitted in this queue; None before, or if there is nothing.

        What they had said is kept beside the rewards that they see from now on.
        """

    def decide(self, decision: Decision) -> Decision:
        """Settle a dispute; a new decision on the same thing takes the old one's place.

        Raises:
            InvalidInput: no reason, or a value that cannot be.
            NotFound: no such chat, pair or step.
        """

    def undecide(self, decision: Decision) -> bool:
        """Take a decision back; what people said counts again. False if there was none."""

    def save_gold(
        self, chat_id: str, answer: GoldAnswer, explanation: str = "", other_id: str | None = None, gold_id: str | None = None
    ) -> str:
        """Say what the right answer of an item is, or change it. Returns the known answer's id.

        Raises:
            InvalidInput: nothing is known, or a score, step or verdict that cannot be.
            NotFound: no such chat or pair.
        """

    def release(self, queue_id: str, chat_id: str | None = None) -> None:
        """Give a chat back, or all that this person holds in the queue."""

    def queue_progress(self, queue_id: str) -> QueueProgress:
        """How far this person is in a queue, and how far everybody is; zeros for one that is not there."""

    def history(self, before: str | None = None, limit: int = 50) -> list[Worked]:
        """Chats that this person has judged, the last first. ``before``: only those last judged before this (UTC text)."""

    def changes(self, chat_id: str) -> list[Change]:
        """What this person had said of the chat before they changed it or took it back, oldest first."""

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """All that is kept of this person's labelling, by table (:data:`~rlhf_core.ground.records.MINE`)."""

    def erase(self) -> int:
        """Delete this person's feedback, preferences, rewrites and all that belongs to them. Returns how many judgements went."""

    def consent(self) -> tuple[Consent | None, str | None]:
        """Whether this person lets what they say, and their chats, be used for training and analysis, and since when (UTC text).
        None: they were never asked, and it is used."""

    def set_consent(self, consent: Consent) -> None:
        """Keep what this person answered; it counts from the next snapshot on."""


class RolloutStore(Protocol):
    """Which checkpoint serves whom, and how what it answered was taken. Thread-safe."""

    def events(self, kind: ModelKind) -> list[ModelEvent]:
        """All that was decided of a kind of checkpoint, in order."""

    def last(self, kind: ModelKind) -> ModelEvent | None:
        """The last of them, which says how things stand."""

    def add(self, event: ModelEvent) -> None:
        """Add the next entry to the log, durably.

        Raises:
            Conflict: somebody else added one meanwhile.
            Forbidden: the person may not.
        """

    def served(self, begun: int, canary: str, control: str) -> list[Served]:
        """Answers of both checkpoints to known people since the entry ``begun`` of the roll-out, in an order that new ones only
        lengthen: rated ones by their first rating."""


class TeamLog(Protocol):
    """Who did what on a team's store: written as the person who acts, only added to."""

    def note_act(self, act: str, what: str, detail: Mapping[str, Any]) -> None:
        """
        Raises:
            Forbidden: nobody who has a role asks, or the act is the database's to note.
        """

    def acts(self, words: str = "", limit: int = 500) -> list[LogEntry]:
        """The newest first; those that hold the words, small and capital letters alike.

        Raises:
            Forbidden: for administrators only.
        """


class Store(Protocol):
    """The store of feedback."""

    @property
    def rollout(self) -> RolloutStore: ...

    def for_user(self, session: Session) -> UserStore: ...

    def add_profile(self, user_id: str, display_name: str, origin: Origin) -> Profile:
        """Add a person, or return the one with this id.

        Raises:
            InvalidInput: the name is empty.
        """

    def profiles(self, origin: Origin | None = None) -> list[Profile]: ...

    def counts(self) -> StoreCounts:
        """Of the whole store; of one's own for those who see no more."""

    def chat(self, chat_id: str) -> Chat:
        """One chat with its steps in order.

        Raises:
            NotFound: no such chat.
        """

    def search_chats(self, text: str = "", limit: int = 50) -> list[Chat]:
        """Chats whose query contains ``text`` (letter case ignored), oldest first, without their steps."""

    def queues(self) -> list[Queue]:
        """Open queues first, oldest first."""

    def save_queue(self, queue: Queue) -> Queue:
        """Add a queue, or change the one with its id.

        Raises:
            Duplicate: another one has this name.
            InvalidInput: no name, overlap below 1, an order by a checkpoint without one.
        """

    def archive_queue(self, queue_id: str, *, archived: bool = True) -> None:
        """Close a queue, or open it again.

        Raises:
            NotFound: no such queue.
        """

    def chats_of_queue(self, queue_id: str, limit: int) -> list[Chat]:
        """What the queue may hand out (of pairs, both), oldest first, without their steps; of a queue that is not there, none.

        Raises:
            Forbidden: the role.
        """

    def set_priorities(self, queue_id: str, priorities: Mapping[str, float]) -> None:
        """Which chats (by id) come first in a queue that a checkpoint orders: higher first, chats without one not at all."""

    def set_queue_chats(self, queue_id: str, chats: Mapping[str, Sequence[int]]) -> int:
        """Let a queue hand out these chats only; in their place before came others. Chats that are not here are left out.

        Args:
            queue_id: Which queue.
            chats: Orders of the steps that are asked about (none: the whole chat), by chat id.

        Returns:
            How many chats the queue has now.

        Raises:
            NotFound: no such queue.
        """

    def steps_asked(self, queue_id: str, chat_ids: Sequence[str]) -> dict[str, list[int]]:
        """Of these chats those for which the queue asks about certain steps: their orders by chat id."""

    def rubric(self, queue_id: str) -> Rubric | None:
        """The newest version of what this queue asks beside the score."""

    def save_rubric(self, queue_id: str, aspects: Sequence[Aspect]) -> Rubric:
        """Add a version, unless the newest says the same.

        Raises:
            InvalidInput: names, questions or anchors that cannot be.
            NotFound: no such queue.
        """

    def gold(self) -> list[Gold]:
        """Items with a known answer, oldest first."""

    def remove_gold(self, gold_id: str) -> bool: ...

    def screenings(self, queue: Queue) -> list[Screening]:
        """How everybody did on the queue's screening, by name."""

    def forget_screening(self, queue_id: str, user_id: str) -> None:
        """Let somebody begin again: their known answers in this queue are forgotten, and may be asked anew."""

    def set_hints(self, queue_id: str, checkpoint_id: str, rewards: Mapping[str, Mapping[str, float]]) -> None:
        """A checkpoint's rewards (stars) by chat, then by step id ("": the whole answer); the old ones go."""

    def disputes(self, limit: int = 200) -> list[Dispute]:
        """What people judge differently: open ones first, then the gravest."""

    def judgements(self, chat_id: str, other_id: str | None = None) -> list[Judgement]:
        """Everybody's word on one chat or pair, by person."""

    def decisions(self, chat_id: str, other_id: str | None = None) -> list[Decision]: ...

    def mean_scores(self, chat_id: str) -> dict[str | None, tuple[float, int]]:
        """Everybody's mean score, or what was decided, and number of judgements by step id (None: the whole answer)."""

    def bulk(self) -> AbstractContextManager[tuple[BulkWriter, BulkCounts]]:
        """One transaction for an import: all of it is stored when the block ends, or nothing when it raises."""

    def export(self) -> AbstractContextManager[Export]: ...


class RunRecord(Protocol):
    """What a run says of itself, and hears: the part of :class:`RunLedger` that it uses while it is carried out. Where the ledger
    is on another machine, the run's folder carries it (:mod:`~rlhf_core.store.folder_runs`)."""

    def get(self, run_id: str) -> Run:
        """
        Raises:
            NotFound: no such run.
        """

    def claim(self, run_id: str, host: str, device: str | None = None) -> Run:
        """Take this queued run; exactly one caller gets it.

        Raises:
            NotFound: no such run.
            RunRefused: it is not queued.
        """

    def set_process(self, run_id: str, host: str, pid: int, pid_create_time: float) -> None: ...

    def beat(self, run_id: str, phase: str, step: int, total_steps: int | None) -> Run | None:
        """Record life and progress; the returned row says whether a cancel was asked for. None if it is not running."""

    def finish(
        self, run_id: str, status: RunStatus, message: str | None, checkpoint_id: str | None,
        remedy: dict[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        """Record the end of a running run. False if it had ended already. One that was asked to pause and ends ``cancelled`` is
        ``paused``. ``remedy``: options with which another try may succeed."""

    def request_pause(self, run_id: str) -> Run:
        """Ask a running run to save where it stands and stop until :meth:`RunLedger.go_on`; a queued one waits from now on.

        Raises:
            NotFound: no such run.
            RunRefused: it has ended.
        """


class RunLedger(RunRecord, Protocol):
    """One row for each training run on a workspace. Status changes are atomic, and a finished run never changes again."""

    def add(
        self,
        run_id: str,
        kind: RunKind,
        config: dict[str, Any],
        snapshot_id: str,
        requested_by: str | None,
        host: str | None = None,
        memory_mb: int | None = None,
        *,
        engine: str = LOCAL,
        resources: dict[str, Any] | None = None,
        sweep: str | None = None,
    ) -> Run:
        """Queue a run; with ``host`` it is running there from the start. An id that is known is left as it is.

        Args:
            run_id, kind, config, snapshot_id, requested_by: Of the run.
            host: Where it is carried out from now on; None queues it.
            memory_mb: What it is thought to need, MiB.
            engine, resources, sweep: As a :class:`Run` has them.
        """

    def restore(self, run: Run) -> bool:
        """Add the row of a run that ended elsewhere; no engine has it. False if one of its id is here already."""

    def recent(self, limit: int | None = 200) -> list[Run]:
        """Newest first; None: all."""

    def find(
        self, kinds: Sequence[str] = (), statuses: Sequence[str] = (), words: str = "", limit: int = -1, sweep: str | None = None
    ) -> list[RunLine]:  # fmt: skip
        """Newest first: those of these kinds and statuses (none named: all) whose id, engine, sweep, checkpoint, snapshot,
        options or message hold the words, small and capital letters alike. ``limit``: at most so many, or all; ``sweep``: of it
        alone."""

    def sweeps(self) -> list[Sweep]:
        """Newest first."""

    def next_attempt(self, run_id: str) -> Run:
        """One more try of a queued run, under a name that no engine has heard yet. It stays queued until it is
        claimed.

        Raises:
            NotFound: no such run.
            RunRefused: it is not queued.
        """

    def set_holds(self, run: Run, holds: bool) -> None:
        """Whether this try may be carried out by its engine: from before it is handed over until it is known to be over there."""

    def set_job(self, run: Run, job_id: str | None) -> None:
        """How the engine knows this try; None: not any more."""

    def given_up(self) -> list[Run]:
        """Those that are over here while an engine may still carry them out: it has to hear of it."""

    def say_phase(self, run_id: str, phase: str) -> None:
        """What one that is not over waits for, in words."""

    def fail_queued(self, run_id: str, message: str) -> bool:
        """One that waits could not be begun. False if it does not wait."""

    def tally(self) -> dict[tuple[RunKind, RunStatus], int]:
        """How many runs there are of each kind and status."""

    def unfinished(self) -> list[Run]:
        """Queued and running ones, in the order in which they start: by priority, then age."""

    def not_over(self) -> list[Run]:
        """Those, and paused ones: what may still learn."""

    def request_cancel(self, run_id: str) -> Run:
        """Ask a running run to stop; a queued or paused one is cancelled at once.

        Raises:
            NotFound: no such run.
            RunRefused: it has ended.
        """

    def go_on(self, run_id: str) -> Run:
        """Queue a paused run again.

        Raises:
            NotFound: no such run.
            RunRefused: it is not paused, or its engine has not heard of the pause yet.
        """

    def move(self, old_snapshot_id: str, new_snapshot_id: str) -> int:
        """Let runs of one snapshot that wait, or are paused, learn from another one, which it became. How many they are."""

    def set_priority(self, run_id: str, priority: int) -> Run:
        """Of a run that waits: higher ones start first.

        Raises:
            NotFound: no such run.
            RunRefused: it does not wait.
        """
