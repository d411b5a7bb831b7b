"""What more ratings would bring: readouts fitted on growing parts of the data, and on all of it but some of one kind.

The model underneath stays as it was pretrained, so hundreds of fits take seconds. Models that learn whole gain more from more
data than their readouts do; what is said is said of readouts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlhf_core.ground.cards import Curve, CurvePoint, KindGain, Measured, Value
from rlhf_core.learn.measures import Floats, liked_auc
from rlhf_core.learn.readouts import Fitted, Pool, choose_l2, fit

REPEATS = 8
PARTS = (0.25, 0.5, 0.75, 1.0)
HELD = 0.25
MORE = 200
FEWEST_GROUPS = 12
SPANS_AT_MOST = 4000
KIND_AT_LEAST = 30
KINDS: tuple[Measured, ...] = ("steps", "answers", "pairs")


def learning_curve(pool: Pool, *, ordinal: bool, seed: int = 0) -> Curve | None:
    """None where there are too few queries, or none of steps, answers and pairs can be measured.

    Args:
        pool: Everything judged.
        ordinal: The objective.
        seed: Of what is held out and drawn.
    """
    rng = np.random.default_rng(seed)
    pool = _at_most(pool, rng)
    groups = pool.groups
    if len(groups) < FEWEST_GROUPS:
        return None
    heads = len(pool.scales)
    l2 = choose_l2(pool.facts(), heads, ordinal=ordinal, seed=seed)
    sizes = np.full((REPEATS, len(PARTS)), np.nan)
    figures = {kind: np.full((REPEATS, len(PARTS)), np.nan) for kind in KINDS}
    wholes: list[tuple[Pool, Pool, dict[Measured, float]]] = []
    for repeat in range(REPEATS):
        mixed = rng.permutation(groups)
        count = max(2, round(HELD * len(mixed)))
        held, rest = pool.only(mixed[:count]), mixed[count:]
        last: Fitted | None = None
        for k, part in enumerate(PARTS):
            some = pool.only(rest[: max(2, round(part * len(rest)))])
            if not some.examples and not some.pairs:
                continue
            last = fit(some.facts(), heads, ordinal=ordinal, l2=l2 / part)
            sizes[repeat, k] = judgements(some)
            found = _measure(held, last)
            for kind, figure in found.items():
                figures[kind][repeat, k] = figure
        if last is not None:
            wholes.append((held, pool.only(rest), found))
    kind = max(KINDS, key=lambda one: (np.isfinite(figures[one]).sum(), _items(pool, one)))
    known = np.isfinite(figures[kind]) & np.isfinite(sizes)
    if known.sum() < REPEATS * 2:
        return None
    now = judgements(pool)
    gain, low, high = _gain(sizes, figures[kind], known, now, rng)
    points = [
        CurvePoint(judgements=int(np.nanmean(sizes[:, k])), figure=_mean(figures[kind][:, k]))
        for k in range(len(PARTS)) if known[:, k].any()
    ]  # fmt: skip
    return Curve(
        of=kind, judgements=now, more=MORE, points=points, gain=Value(value=gain, low=low, high=high),
        kinds=_kinds(wholes, kind, heads, ordinal, l2, rng),
    )  # fmt: skip


def judgements(pool: Pool) -> int:
    """Ratings by people and votes on pairs."""
    return sum(one.ratings for one in pool.examples) + sum(max(1, one.votes) for one in pool.pairs)


def _at_most(pool: Pool, rng: np.random.Generator) -> Pool:
    """Whole queries of it, so that a curve takes seconds whatever the data's size."""
    size = len(pool.examples) + 2 * len(pool.pairs)
    if size <= SPANS_AT_MOST:
        return pool
    groups = rng.permutation(pool.groups)
    return pool.only(groups[: max(FEWEST_GROUPS, int(len(groups) * SPANS_AT_MOST / size))])


def _of_kind(pool: Pool, kind: Measured) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rated rows and which pairs are of this kind, of the whole judgement."""
    rated = np.array([not one.aspect and one.is_step == (kind == "steps") for one in pool.examples], bool)
    pairs = np.array([not one.aspect for one in pool.pairs], bool)
    none = np.zeros(len(pool.pairs), bool)
    return (np.zeros(len(pool.examples), bool), pairs) if kind == "pairs" else (rated, none)


def _items(pool: Pool, kind: Measured) -> int:
    rated, pairs = _of_kind(pool, kind)
    return int(rated.sum() + pairs.sum())


def _measure(held: Pool, fitted: Fitted) -> dict[Measured, float]:
    """AUC of liked against disliked steps and answers, share of pairs ranked right; only what has a value."""
    rewards, first, second = held.rewards(fitted)
    scores = np.array([one.score for one in held.examples], float)
    found: dict[Measured, float] = {}
    for kind in ("steps", "answers"):
        rated, _ = _of_kind(held, kind)
        auc = liked_auc(scores[rated], rewards[rated])
        if auc is not None:
            found[kind] = auc
    decided = np.array([one.chance != 0.5 and not one.aspect for one in held.pairs], bool)
    if decided.any():
        wins = np.array([one.chance > 0.5 for one in held.pairs], bool)[decided]
        lead = (first - second)[decided]
        found["pairs"] = float(np.mean(np.where(lead == 0, 0.5, (lead > 0) == wins)))
    return found


def _mean(values: Floats) -> Value:
    """Mean over repeats, with two standard errors each way (of repeats that share data: a little too narrow)."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return Value(value=float(known.mean()) if len(known) else None)
    error = 2 * known.std(ddof=1) / len(known) ** 0.5
    return Value(value=float(known.mean()), low=float(known.mean() - error), high=float(known.mean() + error))


def _gain(
    sizes: Floats, figures: Floats, known: NDArray[np.bool_], now: int, rng: np.random.Generator, draws: int = 400
) -> tuple[float, float, float]:
    """How much the figure rises by ``MORE`` judgements, with a 95% bootstrap over repeats.

    Figures are taken for ``a - b / sqrt(judgements)``, each repeat with an ``a`` of its own (what it holds out is easier or
    harder), all with one ``b``.
    """
    step = 1 / np.sqrt(now) - 1 / np.sqrt(now + MORE)

    def slope(repeats: Sequence[int] | NDArray[np.int64]) -> float:
        over, under = 0.0, 0.0
        for repeat in repeats:
            mine = known[repeat]
            if mine.sum() > 1:
                x, y = 1 / np.sqrt(sizes[repeat, mine]), figures[repeat, mine]
                over += float(((x - x.mean()) * (y - y.mean())).sum())
                under += float(((x - x.mean()) ** 2).sum())
        return -over / under if under else 0.0

    drawn = [slope(rng.integers(len(sizes), size=len(sizes))) * step for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return slope(range(len(sizes))) * step, float(low), float(high)


def _kinds(
    wholes: Sequence[tuple[Pool, Pool, dict[Measured, float]]], measured: Measured, heads: int, ordinal: bool, l2: float,
    rng: np.random.Generator,
) -> list[KindGain]:  # fmt: skip
    """What a hundred judgements of each kind bring, from leaving out half of those there are; where there are two kinds."""
    present = [kind for kind in KINDS if wholes and _items(wholes[0][1], kind) >= KIND_AT_LEAST]
    if len(present) < 2:
        return []
    found = []
    for kind in present:
        gains = []
        for held, rest, full in wholes:
            rated, pairs = _of_kind(rest, kind)
            rated, pairs = rated & (rng.random(len(rated)) < 0.5), pairs & (rng.random(len(pairs)) < 0.5)
            fewer = rest.keep(~rated, ~pairs)
            out = judgements(rest.keep(rated, pairs))
            if out and measured in full and (fewer.examples or fewer.pairs):
                less = _measure(held, fit(fewer.facts(), heads, ordinal=ordinal, l2=l2)).get(measured)
                if less is not None:
                    gains.append((full[measured] - less) / out * 100)
        if len(gains) > 2:
            found.append(KindGain(kind=kind, gain=_mean(np.array(gains))))
    return sorted(found, key=lambda one: -(one.gain.value or 0.0))
