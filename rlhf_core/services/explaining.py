"""Why a checkpoint gave a reward: the words that moved it, and rated examples that it takes for alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlhf_core.ground.answers import Explained
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.learn.reading import Reading, step_readings, whole_answer
from rlhf_core.services import snapshots
from rlhf_core.services.comparing import Candidate, Place
from rlhf_core.services.scoring import scoring_device
from rlhf_core.services.workbench import Workbench

if TYPE_CHECKING:
    from rlhf_core.learn.examples import Example

CANDIDATES = 64  # rated texts that share words with the one in question; the model picks among them
RATED_AT_MOST = 20_000


@dataclass(frozen=True, slots=True)
class Near:
    """A rated example, and how alike the checkpoint takes it to be: a cosine, at most 1."""

    example: Example
    likeness: float


def reading_of(query: str, places: Sequence[Place], index: int) -> Reading:
    """What is read to judge one place of an answer: a step with what stands before it, or the whole answer."""
    response = places[-1].text
    if places[index].step_order is None:
        return whole_answer(query, response)
    return step_readings(query, [one.text for one in places[:-1]], response)[index]


def words(workbench: Workbench, candidate: Candidate, reading: Reading) -> Explained:
    """
    Raises:
        RlhfError: the model cannot be loaded or explained.
    """
    workbench.require("compare")
    return workbench.scoring.explain(candidate.ref, reading, device=scoring_device(workbench))


def nearest(
    workbench: Workbench, candidate: Candidate, reading: Reading, *, whole: bool, count: int = 5
) -> list[Near]:  # fmt: skip
    """Of the ratings that the checkpoint learned from (where its snapshot is gone: of the newest), those of texts that it takes
    for most alike. Texts that share words are found first, so that only a few dozen have to be read. ``whole``:
    among whole answers, else among steps, where there are any.

    Raises:
        InvalidInput: there is no snapshot.
        RlhfError: the model cannot be loaded, or shows no states.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    from rlhf_core.learn.examples import build_examples

    workbench.require("compare")
    known = {one.id: one for one in snapshots.listing(workbench)}
    if not known:
        raise InvalidInput("There is no snapshot, so there are no rated examples to look among.")
    own = candidate.checkpoint.snapshot_id if candidate.checkpoint else ""
    snapshot = known.get(own) or next(iter(known.values()))
    begin, end = reading.spans[0]
    tables = (snapshot.table("chats"), snapshot.table("reasoning_steps"), snapshot.table("chat_feedback"))
    itself = (reading.query, reading.answer)
    rated = [one for one in build_examples(*tables) if one.own.strip() and (one.query, one.text) != itself]
    alike = [one for one in rated if one.is_step != whole]  # answers for an answer, steps for a step, where there are any
    examples = (alike or rated)[:RATED_AT_MOST]
    if not examples:
        return []
    try:
        vectors = TfidfVectorizer(sublinear_tf=True).fit_transform([one.own for one in examples] + [reading.answer[begin:end]])
    except ValueError:  # nothing but marks and stop words
        return []
    shared = (vectors[:-1] @ vectors[-1].T).toarray().ravel()
    few = [k for k in sorted(range(len(examples)), key=lambda k: -shared[k])[:CANDIDATES] if shared[k] > 0]
    if not few:
        return []
    readings = [examples[k].reading for k in few]
    likeness = workbench.scoring.alike(candidate.ref, reading, readings, device=scoring_device(workbench))
    return [Near(examples[k], value) for value, k in sorted(zip(likeness, few, strict=True), reverse=True)[:count]]
