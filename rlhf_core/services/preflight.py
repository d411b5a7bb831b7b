"""Before a run is started: what it will need of this machine, about how long it will take, and what is odd about its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow.compute as pc

from rlhf_core.analytics.snapshot import Snapshot, open_snapshot
from rlhf_core.checkpoints.base_models import DEFAULT, locate
from rlhf_core.checkpoints.registry import open_checkpoint
from rlhf_core.checkpoints.shapes import shape_of
from rlhf_core.ground import footprint, machine
from rlhf_core.ground.configs import (
    CONFIGS,
    MICRO_BATCH_TOKENS,
    TINY,
    GenerateConfig,
    PPOConfig,
    RewardConfig,
    RunConfig,
    SFTConfig,
    parse_sources,
)
from rlhf_core.ground.footprint import Part, Size
from rlhf_core.ground.machine import Device
from rlhf_core.ground.records import parse_utc
from rlhf_core.ground.runs import Run, RunKind
from rlhf_core.learn.pairs import FEWEST_TO_LEARN, decided_pairs
from rlhf_core.services.workbench import Workbench

Level = Literal["stop", "mind", "fine"]
TINY_SIZE = Size(700_000, 2, 128, 4, 2_000)
FEW_RATINGS, VERY_FEW_RATINGS = 100, 20
FEW_QUERIES = 20
SHARED_TEXTS = 0.05
CHARACTERS_A_TOKEN = 4.0
ROUGH_SPEED = {"cpu": 25e9, "gpu": 2e13}  # floating-point operations a second: of one processor, of a GPU
KEPT_FREE_MB = 200
PROMPT_TOKENS = 128  # of a query, about


@dataclass(frozen=True, slots=True)
class Finding:
    """``stop``: it will not work; ``mind``: it may not be what you want; ``fine``: looked at, and nothing is wrong."""

    level: Level
    words: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """Memory in MiB (None where a model's size is unknown), seconds from the shortest to the longest guess (None likewise)."""

    findings: list[Finding] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    memory_mb: int | None = None
    device: Device | None = None
    seconds: tuple[float, float] | None = None
    from_run: str | None = None  # whose pace the seconds are

    @property
    def stops(self) -> list[str]:
        return [one.words for one in self.findings if one.level == "stop"]


def check(workbench: Workbench, kind: RunKind, snapshot_id: str | None, config: RunConfig) -> Preflight:
    """All of it. Looks at this machine only: a hub is not asked.

    Raises:
        NotFound, CorruptArtifact: the snapshot or a checkpoint.
        ModelUnavailable: a base model's path has no model.
    """
    workbench.require("train")
    snapshot = open_snapshot(workbench.workspace.snapshots, snapshot_id) if snapshot_id else None
    device = _device_of(config)
    parts = memory_of(workbench, config, device.name)
    need = None if parts is None else footprint.total(parts, device.name)
    findings = [*_of_data(kind, snapshot, config), *_of_models(workbench, config), *_of_disk(workbench, config)]
    findings.append(_of_memory(need, device, parts or []))
    seconds, from_run = _time(workbench, kind, snapshot, config, device)
    order = {"stop": 0, "mind": 1, "fine": 2}
    return Preflight(sorted(findings, key=lambda one: order[one.level]), parts or [], need, device, seconds, from_run)


def memory_of(workbench: Workbench, config: RunConfig, device: str) -> list[Part] | None:
    """What takes how much of the device's memory; None where a model's size is not known here.

    Args:
        workbench, config: The run.
        device: cpu or cuda:N.
    """
    bf16 = config.precision == "bf16" or (config.precision == "auto" and device != "cpu")
    place = "cpu" if device == "cpu" else "cuda"
    if isinstance(config, RewardConfig):
        size = _size(workbench, config.reward_base_model)
        if size is None:
            return None
        learns = config.method != "head"
        tokens = config.micro_batch_tokens or MICRO_BATCH_TOKENS["reward"][place]
        parts = footprint.weights(size, learns=learns, what=config.reward_base_model,
                                  lora_rank=config.lora_rank if config.method == "lora" else None)  # fmt: skip
        mb = footprint.activations(size, tokens, config.max_length, learns=learns, bf16=bf16,
                                   checkpointing=config.gradient_checkpointing)  # fmt: skip
        return [*parts, Part(f"activations of {tokens:,} tokens", mb)]
    if isinstance(config, GenerateConfig) and config.endpoint:
        return []
    policy = _size(workbench, config.begins_from)
    if policy is None:
        return None
    if isinstance(config, GenerateConfig):
        length = config.max_tokens + PROMPT_TOKENS
        mb = footprint.activations(policy, config.batch_size * PROMPT_TOKENS, PROMPT_TOKENS, learns=False, bf16=bf16,
                                   checkpointing=False)  # fmt: skip
        return [
            *footprint.weights(policy, learns=False, what="the policy"),
            Part(f"activations of {config.batch_size} prompts", mb),
            Part("keys and values of answers as they are written", footprint.cache(policy, config.batch_size, length)),
        ]
    if isinstance(config, SFTConfig):
        rank = config.lora_rank if config.method == "lora" else None
        tokens = config.batch_size * config.max_length
        mb = footprint.activations(policy, tokens, config.max_length, learns=True, bf16=bf16,
                                   checkpointing=config.gradient_checkpointing)  # fmt: skip
        return [
            *footprint.weights(policy, learns=True, what="the policy", lora_rank=rank),
            Part(f"activations of {config.batch_size} answers of {config.max_length:,} tokens at most", mb),
            Part("scores for the vocabulary", footprint.logits(policy, tokens)),
        ]
    assert isinstance(config, PPOConfig)
    return _memory_of_ppo(workbench, config, policy, place, bf16=bf16)


def _memory_of_ppo(workbench: Workbench, config: PPOConfig, policy: Size, place: str, *, bf16: bool) -> list[Part] | None:
    lora = config.method == "lora"
    parts = footprint.weights(policy, learns=True, what="the policy", lora_rank=config.lora_rank if lora else None)
    if not lora:
        parts += footprint.weights(policy, learns=False, what="the reference")
    if config.critic == "separate":
        parts += footprint.weights(policy, learns=True, what="the critic")
    judges = [name for name, _ in parse_sources(config.reward or "") if ":" not in name] if config.reward else []
    for name in [*judges, *filter(None, [config.judge])]:
        size = _size(workbench, name)
        if size is None:
            return None
        parts += footprint.weights(size, learns=False, what=name)
    length = config.max_prompt_tokens + config.max_response_tokens
    tokens = max(length, config.micro_batch_tokens or MICRO_BATCH_TOKENS["ppo"][place])
    mb = footprint.activations(policy, tokens, length, learns=True, bf16=bf16, checkpointing=config.gradient_checkpointing)
    return [
        *parts,
        Part(f"activations of {tokens:,} tokens", mb * (2 if config.critic == "separate" else 1)),
        Part("scores for the vocabulary", footprint.logits(policy, tokens)),
        Part("keys and values of answers as they are sampled", footprint.cache(policy, config.batch_size, length)),
    ]


def _size(workbench: Workbench, name: str) -> Size | None:
    return TINY_SIZE if name == TINY else shape_of(locate(name, workbench.workspace.checkpoints))


def _device_of(config: RunConfig) -> Device:
    gpus = machine.gpus()
    if config.device == "cpu" or not gpus:
        return machine.cpu()
    return max(gpus, key=lambda one: one.free_mb)


def _of_memory(need: int | None, device: Device, parts: Sequence[Part]) -> Finding:
    if need is None:
        return Finding("mind", "How much memory it needs is not known before its model is on this machine.")
    if not parts:
        return Finding("fine", "An endpoint writes; this machine needs next to no memory.")
    largest = max(parts, key=lambda one: one.mb)
    about = f"It needs about {in_gb(need)} on {device.name} ({device.title}), most of it for {largest.what} ({in_gb(largest.mb)})"
    lower = "Use method lora, gradient_checkpointing true, fewer micro_batch_tokens, or a smaller model."
    if need > device.total_mb:
        return Finding("stop", f"{about}. There are {in_gb(device.total_mb)} in all. {lower}")
    if need > device.free_mb:
        return Finding(
            "mind", f"{about}. Only {in_gb(device.free_mb)} are free now; it waits while other runs hold the rest. {lower}"
        )
    return Finding("fine", f"{about}. {in_gb(device.free_mb)} are free.")


def _of_disk(workbench: Workbench, config: RunConfig) -> list[Finding]:
    if isinstance(config, GenerateConfig):
        return []
    size = _size(workbench, config.begins_from)
    if size is None:
        return []
    if isinstance(config, RewardConfig) and config.method == "head":
        copies, learns = 1, 0  # it has no place to stand at: it is fitted at once
    else:  # the checkpoint and where it stands, with the optimiser's state; best and last
        copies, learns = 2 + (2 if isinstance(config, PPOConfig) else 0), 8
    saves = (config.ppo_steps // config.save_every if config.save_every else 0) if isinstance(config, PPOConfig) else 0
    need = (copies + saves) * size.parameters * footprint.WEIGHT / footprint.MB + size.parameters * learns / footprint.MB
    free = machine.disk_free_mb(workbench.workspace.root)
    if need + KEPT_FREE_MB > free:
        where = f"to {workbench.workspace.root}, and {in_gb(free)} are free there"
        lower = "Clean up old checkpoints on the page Runs, or save less often."
        return [Finding("stop", f"It will write about {in_gb(need)} {where}. {lower}")]
    return [Finding("fine", f"It will write about {in_gb(need)}; {in_gb(free)} are free on the disk.")]


def _of_models(workbench: Workbench, config: RunConfig) -> list[Finding]:
    found = []
    name = config.begins_from
    if isinstance(config, GenerateConfig) and config.endpoint:
        return []
    if name != TINY and not locate(name, workbench.workspace.checkpoints).offline:
        also = " minilm-l6 works without a network." if name == DEFAULT else ""
        found.append(Finding("mind", f"{name} is not on this machine; it will be downloaded from the model hub first.{also}"))
    if isinstance(config, PPOConfig) and config.judge is not None and config.reward:
        names = [name for name, _ in parse_sources(config.reward) if ":" not in name]  # the others are functions
        trained = [
            open_checkpoint(workbench.workspace.checkpoints, one).manifest["config"] for one in (config.judge, *names)
        ]  # fmt: skip
        if config.judge in names:
            found.append(Finding("mind", "The judge is the reward model itself, so it will not see over-optimisation."))
        elif names and all(one == trained[0] for one in trained[1:]):
            found.append(
                Finding("mind", "The judge was trained as the reward model was; one with another seed or reading sees more.")
            )
    if isinstance(config, PPOConfig) and config.kl_goal is None and config.stop_kl is None:
        found.append(Finding("mind", "kl_goal and stop_kl are none: a fixed coefficient does not bound how far the policy goes."))
    return found


def _of_data(kind: RunKind, snapshot: Snapshot | None, config: RunConfig) -> list[Finding]:
    if snapshot is None:
        return [Finding("mind", "There is no snapshot: the policy learns on five example questions.")] if kind == "ppo" else []
    found: list[Finding] = []
    chats = snapshot.table("chats")
    queries = pc.count_distinct(chats["query"]).as_py()
    if kind == "ppo":
        if queries < FEW_QUERIES:
            found.append(Finding("mind", f"Only {queries} different queries: the policy will know them by heart."))
        if getattr(config, "optimiser", "ppo") == "dpo" and (pairs := len(decided_pairs(snapshot))) < FEW_QUERIES:
            few = pairs < FEWEST_TO_LEARN
            least = f" {FEWEST_TO_LEARN} are the least. Choose between more answers on the page Prefer." if few else ""
            found.append(Finding("stop" if few else "mind", f"Only {pairs} decided pairs, from which dpo learns.{least}"))
        return found or [Finding("fine", f"{queries:,} different queries.")]
    if isinstance(config, GenerateConfig):
        asked = min(queries, config.max_queries or queries)
        return [Finding("fine", f"{asked:,} of {queries:,} different queries, {asked * config.answers:,} answers.")]
    scores = {int(score): count for score, count in snapshot.facts["scores"].items() if count}
    if kind == "sft":
        return found
    assert isinstance(config, RewardConfig)
    ratings, pairs = snapshot.ratings, snapshot.rows["preferences"]
    if ratings + pairs < VERY_FEW_RATINGS:
        found.append(Finding("mind", f"Only {ratings} ratings and {pairs} pairs: enough to see that it runs, not to trust it."))
    elif ratings + pairs < FEW_RATINGS and config.method != "head":
        found.append(Finding("mind", f"Only {ratings} ratings and {pairs} pairs: method head learns most from so few."))
    if queries < FEW_QUERIES:
        found.append(Finding("mind", f"Only {queries} different queries: too few are kept back to measure on."))
    if ratings and len(scores) == 1:
        found.append(
            Finding("stop" if not pairs else "mind", f"Every rating is {next(iter(scores))}: there is nothing to tell apart.")
        )
    elif ratings and not ({1, 2} & scores.keys() and {4, 5} & scores.keys()):
        found.append(Finding("mind", "Nothing was rated below 3, or nothing above: only one class is there to learn."))
    found += _of_raters(snapshot) + _of_leakage(chats)
    asked = snapshot.facts.get("consent", {})
    silent = sum(count for said, count in asked.items() if said != "given")
    if silent:
        found.append(
            Finding("mind", f"{silent} of {sum(asked.values())} raters have not said that their ratings may train models.")
        )
    return found or [Finding("fine", f"{ratings:,} ratings and {pairs:,} pairs on {queries:,} queries.")]


def _of_raters(snapshot: Snapshot) -> list[Finding]:
    table = snapshot.table("chat_feedback")
    if len(table) == 0:
        return []
    spread = table.group_by("rater").aggregate(
        [("feedback_score", "min"), ("feedback_score", "max"), ("feedback_score", "count")]
    )
    rows = spread.to_pylist()
    alike = [one for one in rows if one["feedback_score_min"] == one["feedback_score_max"] and one["feedback_score_count"] >= 10]
    found = []
    if len(rows) == 1:
        found.append(Finding("mind", "All ratings are one person's: it will learn that person's taste."))
    if alike:
        found.append(
            Finding("mind", f"{len(alike)} of {len(rows)} raters gave everything the same score; look at the page Audit.")
        )
    return found


def _of_leakage(chats: Any) -> list[Finding]:
    """Answers that stand under several queries: a split by query puts them on both of its sides."""
    seen = chats.select(["query", "response"]).group_by("response").aggregate([("query", "count_distinct"), ("query", "count")])
    shared = pc.sum(pc.filter(seen["query_count"], pc.greater(seen["query_count_distinct"], 1))).as_py() or 0
    if shared > SHARED_TEXTS * len(chats):
        where = f"{shared:,} of {len(chats):,} answers stand under several queries word for word"
        return [Finding("mind", f"{where}, so test figures will flatter.")]
    return []


def _time(
    workbench: Workbench, kind: RunKind, snapshot: Snapshot | None, config: RunConfig, device: Device
) -> tuple[tuple[float, float] | None, str | None]:  # fmt: skip
    """By the pace of the newest run like this one on a device of this kind; else by counting operations, roughly."""
    work = _work(workbench, snapshot, config)
    for run in workbench.ledger.recent(100):
        if run.kind == kind and run.status == "succeeded" and _alike(run, config) and (run.device or "cpu") == device.name:
            past = CONFIGS[kind].parse(run.config)
            its = open_snapshot(workbench.workspace.snapshots, run.snapshot_id) if run.snapshot_id else None
            before = _work(workbench, its, past)
            if work and before and run.started_at and run.finished_at:
                took = (parse_utc(run.finished_at) - parse_utc(run.started_at)).total_seconds()
                return (0.7 * took * work / before, 1.5 * took * work / before), run.id
    if work is None:
        return None, None
    speed = ROUGH_SPEED["cpu"] * machine.cores() if device.name == "cpu" else ROUGH_SPEED["gpu"]
    return (10 + work / speed / 2, 30 + work / speed * 3), None


def _alike(run: Run, config: RunConfig) -> bool:
    names = ("reward_base_model", "base_model", "method", "reward", "optimiser", "critic")
    return all(run.config.get(name) == getattr(config, name, None) for name in names)


def _work(workbench: Workbench, snapshot: Snapshot | None, config: RunConfig) -> float | None:
    """Floating-point operations: 2 a weight and token read, 6 where it is learned from (Kaplan et al. 2020, arXiv 2001.08361)."""
    if isinstance(config, RewardConfig):
        size = _size(workbench, config.reward_base_model)
        if size is None or snapshot is None:
            return None
        rated = snapshot.ratings + 2 * snapshot.rows["preferences"]
        if config.method == "head":  # each text is read once, whoever rated it; a step's reading is half an answer's, about
            rated = min(rated, snapshot.rows["reasoning_steps"] // 2 + snapshot.rows["chats"])
        tokens = min(rated, config.max_examples or 10**9) * min(config.max_length, _tokens(snapshot))
        return size.parameters * tokens * (2 * 3 if config.method == "head" else 2 + 6 * config.epochs)
    if isinstance(config, GenerateConfig) and config.endpoint:
        return None
    policy = _size(workbench, config.begins_from)
    if policy is None:
        return None
    if isinstance(config, GenerateConfig):
        if snapshot is None:
            return None
        queries: int = pc.count_distinct(snapshot.table("chats")["query"]).as_py()
        answers = min(queries, config.max_queries or queries) * config.answers
        return policy.parameters * 2 * answers * (config.max_tokens + PROMPT_TOKENS)
    if isinstance(config, SFTConfig):
        if snapshot is None:
            return None
        return policy.parameters * 6 * config.passes * snapshot.rows["chats"] * min(config.max_length, _tokens(snapshot))
    assert isinstance(config, PPOConfig)
    answer = (config.min_response_tokens + config.max_response_tokens) / 2
    asked = min(config.max_prompt_tokens, _tokens(snapshot) if snapshot else 40)
    sizes = (
        [_size(workbench, name) for name, _ in parse_sources(config.reward)] if config.reward and ":" not in config.reward else []
    )
    judged = sum(size.parameters for size in sizes if size is not None)
    each = policy.parameters * (asked + answer) * (2 * 4 + 2 + 6 * config.ppo_epochs) + judged * 2 * answer
    return config.ppo_steps * config.batch_size * each


def _tokens(snapshot: Snapshot) -> float:
    """Of a query with its answer, on average."""
    chats = snapshot.table("chats")
    mean = sum(pc.mean(pc.utf8_length(chats[name])).as_py() or 0.0 for name in ("query", "response"))
    return mean / CHARACTERS_A_TOKEN + 10


def in_gb(mb: float) -> str:
    return f"{mb:.0f} MiB" if mb < 1000 else f"{mb / 1024:.1f} GiB"


def time_in_words(found: Preflight) -> str:
    """One sentence."""
    if found.seconds is None:
        return "How long it takes is not known before its model is on this machine."
    least, most = map(_spoken, found.seconds)
    whose = f"by the pace of run {found.from_run}" if found.from_run else "very roughly: no run like it has ended here yet"
    return f"It takes {least} to {most}, {whose}."


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
