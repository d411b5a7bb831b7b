"""How good reward models of a frozen encoder are on real judgements, beside what cannot read. Five seeds, splits by query.

    .venv/bin/python benchmarks/reward_quality.py --data FOLDER [--sets hh_helpful pandalm] [--seeds 5] [--base minilm-l6]

FOLDER holds one folder for each data set, with its records in dev.jsonl (missing ones are said and left out):

- hh_helpful: pairs of whole answers (Anthropic HH-RLHF helpful-base): share ranked right.
- fgrlhf_qa: pairs, and sentences with and without an error (Fine-Grained RLHF): share ranked right, and AUC of sentences.
- pandalm: pairs with three votes: share of majorities ranked right.
- processbench: steps up to the first error: ProcessBench's F1 of the first error, threshold fitted on validation.
- summeval_op: answers rated 1 to 5 in seven aspects by three raters: Spearman with the mean at fixed length.

Every text is read once by the frozen encoder; for each seed a readout is fitted on 70% of the queries (its penalty by cross-validation
among them), thresholds on 10%, and everything is measured on the other 20%, with floors fitted on the same 70%. Figures are means over
seeds with 95% t intervals (seeds share data, so these are a little narrow). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from scipy.stats import t as student
from transformers.utils import logging as transformers_logging

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.learn.examples import Example, learnable
from rlhf_core.learn.floors import length_floor, pair_length_floor, pair_words_floor, words_floor
from rlhf_core.learn.lessons import lay_out
from rlhf_core.learn.measures import Floats, best_threshold, first_below, first_error_f1, liked_auc, partial_spearman
from rlhf_core.learn.pairs import Pair
from rlhf_core.learn.readouts import Pool, fit_choosing
from rlhf_core.learn.reward_model import RewardModel
from rlhf_core.runs.reward_data import scales_of

Judged = tuple[list[Example], list[Pair]]
Figures = dict[str, float]


def records(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def pair(query: str, first: str, second: str, chance: float, votes: int = 1) -> Pair:
    return Pair(query, first, second, chance, votes**0.5, votes, ("a", "b"))


def steps_of(one: dict[str, Any], query: str) -> list[Example]:
    """Steps with a label, as thumbs."""
    whole = "\n\n".join(one["steps"])
    found = []
    for k, (step, label) in enumerate(zip(one["steps"], one["step_labels"], strict=True)):
        if label is not None:
            score = 5.0 if label > 0 else 1.0
            text = "\n\n".join(one["steps"][: k + 1])
            found.append(
                Example(one["id"], query, text, k + 1, score, 1, score, own=step, whole=whole, source=one.get("subset", ""))
            )
    return found


def hh_helpful(path: Path) -> Judged:
    pairs = [pair(one["prompt"], one["chosen"], one["rejected"], 0.85) for one in records(path) if one["prompt"]]
    return [], pairs


def fgrlhf_qa(path: Path) -> Judged:
    examples: list[Example] = []
    pairs: list[Pair] = []
    for one in records(path):
        examples += steps_of(one, one["query"])
        for (i, j), said in zip(combinations(range(4), 2), one["preference"], strict=True):
            if said and one["responses"][i] != one["responses"][j]:
                pairs.append(pair(one["query"], one["responses"][i], one["responses"][j], 0.85 if said == 1 else 0.15))
    return examples, pairs


def pandalm(path: Path) -> Judged:
    pairs = []
    for one in records(path):
        counts = [one["votes"].count(side) for side in (0, 1, 2)]
        if one["response1"] != one["response2"]:
            chance = (0.5 * counts[0] + 0.85 * counts[1] + 0.15 * counts[2]) / 3
            pairs.append(pair(one["prompt"], one["response1"], one["response2"], chance, 3))
    return [], pairs


def processbench(path: Path) -> Judged:
    return [step for one in records(path) for step in steps_of(one, one["query"])], []


def summeval_op(path: Path) -> Judged:
    examples = []
    for one in records(path):
        table = np.array([one["ratings"][name] for name in sorted(one["ratings"])], float)  # (aspects, raters)
        whole = Example(
            one["id"], one["query"], one["response"], None, float(table.mean()), table.shape[1], own=one["response"],
            given=tuple((f"rater{k}", float(score)) for k, score in enumerate(table.mean(0))), whole=one["response"],
        )  # fmt: skip
        examples.append(whole)
        for name, row in zip(sorted(one["ratings"]), table, strict=True):
            given = tuple((f"rater{k}", float(score)) for k, score in enumerate(row))
            examples.append(replace(whole, aspect=name, score=float(row.mean()), given=given))
    return examples, []


SETS: dict[str, Callable[[Path], Judged]] = {
    "hh_helpful": hh_helpful, "fgrlhf_qa": fgrlhf_qa, "pandalm": pandalm, "processbench": processbench, "summeval_op": summeval_op,
}  # fmt: skip


def learn(examples: list[Example], pairs: list[Pair]) -> tuple[list[Example], list[float], list[float]]:
    learned = learnable(examples)
    return learned, [one.weight for one in learned], [one.weight for one in pairs]


def right(pairs: list[Pair], leads: Floats) -> float:
    decided = np.array([one.chance != 0.5 for one in pairs])
    wins = np.array([one.chance > 0.5 for one in pairs])[decided]
    leads = leads[decided]
    return float(np.mean(np.where(leads == 0, 0.5, (leads > 0) == wins)))


def first_errors(examples: list[Example], before: list[Example], rewards: Floats, rewards_before: Floats) -> Figures:
    """ProcessBench's F1 over all chats, and its mean over subsets, with a threshold fitted on ``before``."""

    def chats(some: list[Example], given: Floats) -> tuple[list[str], list[int], list[Floats]]:
        rows: dict[str, list[int]] = {}
        for k, one in enumerate(some):
            rows.setdefault(one.chat_id, []).append(k)
        said = [next((at for at, k in enumerate(mine) if some[k].score <= 2), -1) for mine in rows.values()]
        return [some[mine[0]].source for mine in rows.values()], said, [given[mine] for mine in rows.values()]

    _, said, given = chats(before, rewards_before)
    threshold = best_threshold(said, given)
    subsets, said, given = chats(examples, rewards)
    predicted = first_below(given, threshold if threshold is not None else 0.0)
    by_subset = []
    for name in sorted(set(subsets)):
        mine = [k for k, one in enumerate(subsets) if one == name]
        by_subset.append(first_error_f1([said[k] for k in mine], [predicted[k] for k in mine]) or 0.0)
    return {"f1": first_error_f1(said, predicted) or 0.0, "f1_mean_of_subsets": float(np.mean(by_subset))}


def measure(pool: Pool, heads: int, seed: int, folds: int) -> tuple[Figures, float]:
    """Figures of one seed, and the penalty that was chosen."""
    mixed = np.random.default_rng(seed).permutation(pool.groups)
    cut, end = round(0.7 * len(mixed)), round(0.8 * len(mixed))
    train, before, test = pool.only(mixed[:cut]), pool.only(mixed[cut:end]), pool.only(mixed[end:])
    learned, _, _ = learn(train.examples, train.pairs)
    scales = scales_of(learned, [one.aspect for one in pool.scales])
    train, before, test = (replace(one, scales=scales) for one in (train, before, test))
    fitted = fit_choosing(train.facts(), heads, ordinal=False, seed=seed, folds=folds)
    rewards, first, second = test.rewards(fitted)
    found: Figures = {}
    if test.pairs:
        found["pairs"] = right(test.pairs, first - second)
        decided = [one for one in train.pairs if one.chance != 0.5]
        found["pairs_longer_wins"] = right(test.pairs, np.array([len(one.first) - len(one.second) for one in test.pairs], float))
        found["pairs_length"] = right(test.pairs, pair_length_floor(decided)(test.pairs))
        found["pairs_words"] = right(test.pairs, pair_words_floor(decided)(test.pairs))
    plain = np.array([not one.aspect for one in test.examples], bool)
    if plain.any():
        examples = [one for one in test.examples if not one.aspect]
        mine = rewards[plain]
        taught = [one for one in learned if not one.aspect]
        floors = {"length": length_floor(taught), "words": words_floor(taught)}
        scores = np.array([one.score for one in examples])
        chars = np.array([len(one.own) for one in examples], float)
        if examples[0].is_step:
            found["steps_auc"] = liked_auc(scores, mine) or 0.5
            for name, floor in floors.items():
                found[f"steps_auc_{name}"] = liked_auc(scores, floor(examples)) or 0.5
            if any(one.source for one in examples):
                found |= first_errors(examples, before.examples, mine, before.rewards(fitted)[0])
                for name, floor in floors.items():
                    theirs = first_errors(examples, before.examples, floor(examples), floor(before.examples))
                    found |= {f"{key}_{name}": value for key, value in theirs.items()}
        else:
            found["spearman_at_fixed_length"] = partial_spearman(mine, scores, chars) or 0.0
            found["spearman_at_fixed_length_words"] = partial_spearman(floors["words"](examples), scores, chars) or 0.0
    return found, fitted.l2


def of_set(name: str, path: Path, model: RewardModel, seeds: int, folds: int, one_pass: bool) -> dict[str, Any]:
    examples, pairs = SETS[name](path)
    aspects = ["", *sorted({one.aspect for one in examples if one.aspect})]
    lessons = lay_out(examples, pairs, model.encode, one_pass=one_pass)
    features = model.features(lessons.encoded)
    pool = Pool.of([lessons], [features], [examples], scales_of([], aspects), learn)
    print(f"{name}: {len(examples)} ratings and {len(pairs)} pairs of {len(pool.groups)} queries, {lessons.cut} of {len(lessons.encoded)} "
          "texts too long", flush=True)  # fmt: skip
    all_figures: dict[str, list[float]] = {}
    for seed in range(seeds):
        figures, l2 = measure(pool, len(aspects), seed, folds)
        print(
            f"  seed {seed}, penalty {l2:.3g}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True
        )
        for key, value in figures.items():
            all_figures.setdefault(key, []).append(value)
    found = {}
    for key, values in all_figures.items():
        half = float(student.ppf(0.975, seeds - 1) * np.std(values, ddof=1) / seeds**0.5) if seeds > 1 else float("nan")
        found[key] = {"mean": round(float(np.mean(values)), 4), "half_width": round(half, 4)}
        print(f"  {key}: {np.mean(values):.3f} +- {half:.3f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--base", default="minilm-l6")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--see-length", action="store_true", help="the readout also sees how long a step is and where it stands")
    parser.add_argument("--step-reading", choices=["prefixes", "one_pass"], default="one_pass")
    arguments = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    model = RewardModel.from_base(
        locate(arguments.base), max_length=arguments.max_length, seed=0, device=torch.device("cpu"), lengths=arguments.see_length
    )  # fmt: skip
    found = {}
    for name in arguments.sets:
        path = arguments.data / name / "dev.jsonl"
        if not path.is_file():
            print(f"{name}: there is no {path}; left out")
            continue
        found[name] = of_set(name, path, model, arguments.seeds, arguments.folds, arguments.step_reading == "one_pass")
    print(json.dumps({"base": arguments.base, "seeds": arguments.seeds, "sets": found}))


if __name__ == "__main__":
    main()
