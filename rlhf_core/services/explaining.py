"""Why a checkpoint gave a reward: the words that moved it, and rated examples that it takes for alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.text import step_prefixes
from rlhf_core.services import snapshots
from rlhf_core.services.comparing import Candidate, Place
from rlhf_core.services.scoring import scoring_device
from rlhf_core.services.workbench import Workbench

CANDIDATES = 64  # rated texts that share words with the one in question; the model picks among them
RATED_AT_MOST = 20_000

Reading = tuple[str, str, int, int]  # query, answer, and the first and last character + 1 of what is judged


@dataclass(frozen=True, slots=True)
class Words:
    """``words``: begin and end in ``text``, and what each adds to the reward, in stars. ``baseline``: the reward of the same text
    with every word blanked. ``rest``: the error of the estimate. ``left_out``: tokens that the model did not read."""

    text: str
    reward: float
    baseline: float
    words: list[tuple[int, int, float]]
    rest: float
    left_out: int


@dataclass(frozen=True, slots=True)
class Near:
    """A rated example. ``likeness``: a cosine, at most 1. ``step_order`` is None for a whole answer."""

    chat_id: str
    query: str
    text: str
    step_order: int | None
    score: float
    ratings: int
    likeness: float


def reading_of(query: str, places: Sequence[Place], index: int) -> Reading:
    """What is read to judge one place of an answer: a step with what stands before it, or the whole answer."""
    response = places[-1].text
    if places[index].step_order is None:
        return query, response, 0, len(response)
    steps = [one.text for one in places[:-1]]
    prefix = step_prefixes(response, steps)[index]
    begin = len(prefix) - len(steps[index]) if prefix.endswith(steps[index]) else 0
    return query, prefix, begin, len(prefix)


def words(workbench: Workbench, candidate: Candidate, reading: Reading) -> Words:
    """
    Raises:
        RlhfError: the model cannot be loaded or explained.
    """
    workbench.require("compare")
    said = workbench.scoring.explain(candidate.ref, reading, device=scoring_device(workbench))
    given = [(begin, end, weight) for begin, end, weight in said["words"]]
    return Words(said["text"], said["reward"], said["baseline"], given, said["rest"], said["left_out"])


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
    query, answer, begin, end = reading
    tables = (snapshot.table("chats"), snapshot.table("reasoning_steps"), snapshot.table("chat_feedback"))
    rated = [one for one in build_examples(*tables) if one.own.strip() and not (one.query == query and one.text == answer)]
    alike = [one for one in rated if one.is_step != whole]  # answers for an answer, steps for a step, where there are any
    examples = (alike or rated)[:RATED_AT_MOST]
    if not examples:
        return []
    try:
        vectors = TfidfVectorizer(sublinear_tf=True).fit_transform([one.own for one in examples] + [answer[begin:end]])
    except ValueError:  # nothing but marks and stop words
        return []
    shared = (vectors[:-1] @ vectors[-1].T).toarray().ravel()
    few = [k for k in sorted(range(len(examples)), key=lambda k: -shared[k])[:CANDIDATES] if shared[k] > 0]
    if not few:
        return []
    readings = []
    for k in few:
        one = examples[k]
        start = len(one.text) - len(one.own) if one.is_step and one.text.endswith(one.own) else 0
        readings.append((one.query, one.text, start, len(one.text)))
    likeness = workbench.scoring.alike(candidate.ref, reading, readings, device=scoring_device(workbench))
    best = sorted(zip(likeness, few, strict=True), reverse=True)[:count]
    return [
        Near(one.chat_id, one.query, one.own, one.step_order, one.score, one.ratings, value)
        for value, one in ((value, examples[k]) for value, k in best)
    ]
