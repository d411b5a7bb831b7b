"""Which ratings trained which run, which checkpoint came of it, and where it serves; and backwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from rlhf_core.analytics.snapshot import list_snapshots
from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.ground.configs import parse_sources
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.rollout import MODEL_KINDS, state_of
from rlhf_core.ground.runs import Run
from rlhf_core.services.workbench import Workbench

NodeKind = Literal["snapshot", "run", "checkpoint", "base", "queue"]


@dataclass(frozen=True, slots=True)
class Node:
    """``words``: what is known of it, a line each; ``gone``: it was removed, and is named by what came of it."""

    id: str
    kind: NodeKind
    words: tuple[str, ...] = ()
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """``source`` went into ``target``: as its ratings, prompts, beginning, reward, judge, result or hints."""

    source: str
    target: str
    what: str


@dataclass(slots=True)
class Lineage:
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    def of(self, focus: str) -> Lineage:
        """All that went into it and all that came of it.

        Raises:
            NotFound: there is nothing of this id.
        """
        if focus not in self.nodes:
            raise NotFound(f"There is no snapshot, run or checkpoint {focus!r} here.")
        kept = {focus} | self._reach(focus, forward=True) | self._reach(focus, forward=False)
        edges = [edge for edge in self.edges if edge.source in kept and edge.target in kept]
        return Lineage({name: node for name, node in self.nodes.items() if name in kept}, edges)

    def into(self, focus: str, kind: NodeKind) -> list[str]:
        """Ids of that kind that went into it, directly or not."""
        return [name for name in self.nodes if name in self._reach(focus, forward=False) and self.nodes[name].kind == kind]

    def out_of(self, focus: str, kind: NodeKind) -> list[str]:
        """Ids of that kind that came of it."""
        return [name for name in self.nodes if name in self._reach(focus, forward=True) and self.nodes[name].kind == kind]

    def _reach(self, focus: str, *, forward: bool) -> set[str]:
        steps: dict[str, list[str]] = {}
        for edge in self.edges:
            near, far = (edge.source, edge.target) if forward else (edge.target, edge.source)
            steps.setdefault(near, []).append(far)
        found: set[str] = set()
        ahead = [focus]
        while ahead:
            for one in steps.get(ahead.pop(), []):
                if one not in found:
                    found.add(one)
                    ahead.append(one)
        return found


def lineage(workbench: Workbench) -> Lineage:
    """Everything in the workspace."""
    workbench.require("train")
    found = Lineage()
    nodes = found.nodes
    for snapshot in list_snapshots(workbench.workspace.snapshots):
        raters = snapshot.facts["raters"]
        words = (f"{snapshot.ratings:,} ratings, {raters} raters", snapshot.created_at[:10])
        nodes[snapshot.id] = Node(snapshot.id, "snapshot", words)
    checkpoints = list_checkpoints(workbench.workspace.checkpoints)
    for one in checkpoints:
        nodes[one.id] = Node(one.id, "checkpoint", (one.created_at[:10], *(() if one.complete else ("stopped early",))))
    runs = workbench.ledger.recent(None)
    for run in runs:
        nodes[run.id] = Node(run.id, "run", (run.kind, run.status))
    for run in runs:
        for source, kind, what in _into(run):
            nodes.setdefault(source, Node(source, kind, gone=kind != "base"))
            found.edges.append(Edge(source, run.id, what))
        if run.checkpoint_id and run.checkpoint_id not in nodes:
            nodes[run.checkpoint_id] = Node(run.checkpoint_id, "checkpoint", gone=True)
            found.edges.append(Edge(run.id, run.checkpoint_id, "made"))
    for one in checkpoints:
        if one.run_id not in nodes:
            nodes[one.run_id] = Node(one.run_id, "run", gone=True)
        found.edges.append(Edge(one.run_id, one.id, "made"))
    for queue in workbench.store.queues():
        if queue.hint_checkpoint:
            name = f"queue {queue.name}"
            nodes[name] = Node(name, "queue", ("shows its rewards",))
            nodes.setdefault(queue.hint_checkpoint, Node(queue.hint_checkpoint, "checkpoint", gone=True))
            found.edges.append(Edge(queue.hint_checkpoint, name, "hints"))
    return found


def serves(workbench: Workbench) -> dict[str, list[str]]:
    """Checkpoint ids that something uses now, and what: queues that show their rewards, people whom they serve or may serve
    again, runs that are not over."""
    found: dict[str, list[str]] = {}
    for queue in workbench.store.queues():
        if queue.hint_checkpoint:
            found.setdefault(queue.hint_checkpoint, []).append(f"queue {queue.name} shows its rewards")
    for model_kind in MODEL_KINDS:
        for alias, checkpoint_id in state_of(workbench.store.rollout.last(model_kind)).aliases().items():
            found.setdefault(checkpoint_id, []).append(f"it is {alias} of the {model_kind} checkpoints")
    for run in workbench.ledger.not_over():
        for source, kind, what in _into(run):
            if kind == "checkpoint":
                found.setdefault(source, []).append(f"run {run.id} is {run.status} ({what})")
    return found


def went_into_runs(runs: Iterable[Run]) -> set[str]:
    """Checkpoint ids from which any of these began, or by which it was judged."""
    return {source for run in runs for source, kind, _ in _into(run) if kind == "checkpoint"}


def _into(run: Run) -> Iterable[tuple[str, NodeKind, str]]:
    """What a run's row says went into it."""
    if run.snapshot_id:
        yield run.snapshot_id, "snapshot", "prompts" if run.kind in ("ppo", "generate") else "ratings"
    begins = run.config.get("reward_base_model") or run.config.get("base_model")
    if begins:
        yield str(begins), _kind_of(str(begins)), "writes" if run.kind == "generate" else "begins from"
    if run.config.get("reward"):
        try:
            sources = parse_sources(str(run.config["reward"]))
        except InvalidInput:  # as an older version may have let it through: shown as it was said
            sources = [(str(run.config["reward"]), 1.0)]
        for name, weight in sources:
            yield name, _kind_of(name), "reward" if weight == 1 else f"reward x {weight:g}"
    if run.config.get("judge"):
        yield str(run.config["judge"]), _kind_of(str(run.config["judge"])), "judge"
    if run.config.get("resume_from"):
        yield str(run.config["resume_from"]), "run", "goes on from"


def _kind_of(name: str) -> NodeKind:
    prefix, _, rest = name.partition("-")
    hashed = len(rest) == 12 and all(one in "0123456789abcdef" for one in rest)
    return "checkpoint" if prefix in ("reward", "policy") and hashed else "base"


SHAPES: dict[NodeKind, tuple[str, str]] = {
    "snapshot": ("cylinder", "#dbeafe"), "run": ("box", "#f3f4f6"), "checkpoint": ("component", "#ccfbf1"),
    "base": ("folder", "#fef3c7"), "queue": ("note", "#fae8ff"),
}  # fmt: skip


def as_dot(found: Lineage, focus: str | None = None) -> str:
    """The picture in Graphviz's language, from left to right."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    lines = ["digraph lineage {", '  rankdir="LR"; bgcolor="transparent"; node [fontname="sans-serif" fontsize=11 style=filled];',
             '  edge [fontname="sans-serif" fontsize=9 color="#7d8783" fontcolor="#7d8783"];']  # fmt: skip
    for node in found.nodes.values():
        shape, colour = SHAPES[node.kind]
        label = "\n".join([node.id, *node.words, *(["removed"] if node.gone else [])])
        marks = f" penwidth={3 if node.id == focus else 1}" + (' style="filled,dashed"' if node.gone else "")
        label = quoted(label).replace("\n", "\\n")
        lines.append(f'  {quoted(node.id)} [label={label} shape={shape} fillcolor="{colour}"{marks}];')
    lines += [f"  {quoted(edge.source)} -> {quoted(edge.target)} [label={quoted(edge.what)}];" for edge in found.edges]
    return "\n".join([*lines, "}"])
