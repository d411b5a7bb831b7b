"""Krippendorff's alpha with its bootstrap interval over a million ratings, beside the library called once a round.

    .venv/bin/python benchmarks/agreement.py [--ratings 1000000] [--rounds 1000] [--level ordinal]

Four raters score 1 to 5 with some scores missing. Ours: everything from three columns (unit, rater, score) to the estimate and
its interval. The library: its quickest way, counts of values, made before the clock starts; one call a round on the units drawn
for it. In ``--checked`` of the rounds ours is computed on exactly the units that the library got, and must say the same.
Also measured, without a counterpart in the library: the same with steps drawn by whole chats. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import krippendorff
import numpy as np

from rlhf_core.analytics.reliability import Table, alpha, alpha_summands, alphas, value_counts


def ratings(count: int, raters: int, seed: int) -> Table:
    """About ``count`` ratings: raters differ from a common truth by a step now and then, and leave some out."""
    generator = np.random.default_rng(seed)
    missing = 0.2
    units = round(count / raters / (1 - missing))
    truth = generator.choice(5, units, p=[0.1, 0.1, 0.2, 0.3, 0.3]) + 1
    scores = np.clip(truth + generator.choice([-1, 0, 0, 0, 1], (raters, units)), 1, 5).astype(float)
    rater, unit = (one.reshape(-1) for one in np.indices(scores.shape))
    there = generator.random(len(rater)) >= missing
    unit, rater, score = unit[there], rater[there], scores.reshape(-1)[there]
    return Table(unit, rater, score, unit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=1_000_000)
    parser.add_argument("--raters", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--checked", type=int, default=50)
    parser.add_argument("--level", default="ordinal", choices=["nominal", "ordinal", "interval", "ratio"])
    arguments = parser.parse_args()
    table = ratings(arguments.ratings, arguments.raters, seed=0)

    began = time.perf_counter()
    ours = alpha(table, arguments.level, rounds=arguments.rounds)
    ours_s = time.perf_counter() - began
    print(
        f"ours: {ours.value:.6f} [{ours.low:.6f}, {ours.high:.6f}] over {len(table.unit):,} ratings, {arguments.rounds} rounds: {ours_s:.2f} s"
    )

    chats = Table(table.unit, table.rater, table.value, table.unit // 5)
    began = time.perf_counter()
    clustered = alpha(chats, arguments.level, rounds=arguments.rounds)
    clustered_s = time.perf_counter() - began
    print(f"ours, drawing chats of five steps: [{clustered.low:.6f}, {clustered.high:.6f}]: {clustered_s:.2f} s")

    values, counts = value_counts(table.pairable())
    plain = {"value_domain": values, "level_of_measurement": arguments.level}
    point = krippendorff.alpha(value_counts=counts, **plain)
    generator = np.random.default_rng(1)
    drawn = np.empty(len(counts), dtype=np.int64)
    found = []
    library_s = 0.0
    differences = [abs(point - ours.value)]
    base = counts.max() + 1
    keys = counts @ (base ** np.arange(counts.shape[1]))
    _, pattern_of = np.unique(keys, return_inverse=True)
    summands, _ = alpha_summands(counts)
    for k in range(arguments.rounds):
        began = time.perf_counter()
        drawn = generator.integers(0, len(counts), len(counts))
        found.append(krippendorff.alpha(value_counts=counts[drawn], **plain))
        library_s += time.perf_counter() - began
        if k < arguments.checked:
            weights = np.bincount(pattern_of[drawn], minlength=len(summands))[None].astype(float)
            differences.append(abs(alphas(weights @ summands, values, arguments.level)[0] - found[-1]))
    low, high = np.quantile(found, [0.025, 0.975])
    print(f"library: {point:.6f} [{low:.6f}, {high:.6f}], {arguments.rounds} calls: {library_s:.2f} s")
    print(
        json.dumps(
            {
                "alpha_ratio": round(library_s / ours_s, 1),
                "alpha_max_abs_diff": float(max(differences)),
                "ratings": len(table.unit),
                "rounds": arguments.rounds,
                "level": arguments.level,
                "ours_s": round(ours_s, 3),
                "library_s": round(library_s, 2),
                "clustered_s": round(clustered_s, 3),
                "interval_max_abs_diff": float(max(abs(low - ours.low), abs(high - ours.high))),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
