"""Agreement in a snapshot: which ratings count, by what they are grouped, and published figures through the whole product."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from rlhf_core.analytics.agreement import first_error_distances, first_errors, judgements, measure, rater_pairs
from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.judgement import Aspect, By, What
from rlhf_core.ground.records import EVERYTHING, LabelOp, new_id
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from tests.conftest import command


def scores(rater: str, *given: int | None, whole: int | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"step": k, "score": one, "rater": rater} for k, one in enumerate(given, 1) if one is not None]
    return [*found, {"score": whole, "rater": rater}] if whole else found


def take(workbench: Workbench) -> Snapshot:
    return snapshots.take(workbench)[0]


def chat(query: str, steps: int, *feedback: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    texts = [f"{query} step {k}" for k in range(1, steps + 1)]
    return {"query": query, "steps": texts, "feedback": [one for some in feedback for one in some]} | more


def test_alpha_by_hand(workbench: Workbench, add_chats: Any) -> None:
    """Two raters, interval: 1-1, 2-3, 5-5, against the definition over all pairs of values."""
    add_chats(chat("q", 3, scores("A", 1, 2, 5), scores("B", 1, 3, 5)))
    (row,) = measure(take(workbench), "steps", level="interval")
    values = [1, 1, 2, 3, 5, 5]
    observed = 2 * (2 - 3) ** 2 / 6
    expected = sum((a - b) ** 2 for k, a in enumerate(values) for j, b in enumerate(values) if k != j) / (6 * 5)
    assert row.alpha.value == pytest.approx(1 - observed / expected)
    assert (row.alpha.units, row.alpha.ratings, row.alpha.raters) == (3, 6, 2)


def test_steps_after_a_raters_own_stop_do_not_count(workbench: Workbench, add_chats: Any) -> None:
    add_chats(chat("q", 4, scores("A", 5, 5, 5, 5)))
    one = workbench.store.chat(workbench.store.search_chats()[0].id)
    ben = workbench.store.for_user(Workbench.session(workbench.add_person("Ben")))
    for step, score in zip(one.steps, (5, 1, 1, 3), strict=True):
        ben.rate(one.id, step.id, score, "stars")
    assert len(judgements(take(workbench), "steps")) == 8
    ben.apply([LabelOp(new_id(), "first_error", one.id, one.steps[1].id)])
    frame = judgements(take(workbench), "steps")
    assert len(frame) == 6, "Ben's words on steps 3 and 4 come after the error that he marked; the marked step is in"
    assert sorted(frame["value"]) == [1, 5, 5, 5, 5, 5]


def test_first_errors_and_how_far_they_lie_apart(workbench: Workbench, add_chats: Any) -> None:
    add_chats(
        chat("a", 4, scores("A", 5, 2, 1, 5), scores("B", 5, 5, 1, 5), scores("C", 5, 5, 5, 5)),
        chat("b", 2, scores("A", 4, 4), scores("B", 4, 3)),
        chat("c", 2, scores("A", 1, None), scores("C", whole=1)),
    )
    snapshot = take(workbench)
    found = first_errors(snapshot).merge(
        snapshot.table("chats").select(["id", "query"]).to_pandas().rename(columns={"id": "chat_id"}), on="chat_id"
    )
    places = {(row.query, row.place) for row in found.itertuples()}
    assert places == {("a", 2), ("a", 3), ("a", 5), ("b", 3), ("c", 1)}, "who judged no step says nothing of its first error"
    apart = first_error_distances(snapshot)
    assert (apart.pairs, apart.chats) == (4, 2)
    assert apart.exact[0] == 1 / 4
    assert apart.within_one[0] == 2 / 4
    assert apart.distance[0] == (1 + 3 + 2 + 0) / 4


def test_everything_by_everything(judged: Workbench) -> None:
    snapshot = take(judged)
    groups: dict[tuple[What, By | None], list[str]] = {}
    for what in get_args(What):
        for by in (None, *get_args(By)):
            rows = measure(snapshot, what, by, rounds=20)
            assert rows[0].group == "everything"
            assert rows[0].alpha.value is not None, rows[0].alpha.why
            groups[what, by] = [row.group for row in rows[1:]]
    assert len(groups["steps", "rater"]) == 6
    assert len(groups["preferences", "rater"]) == 6
    assert groups["steps", "queue"] == groups["aspects", "queue"] == ["Careful"]
    assert groups["preferences", "queue"] == ["Every two answers"]
    assert groups["aspects", "aspect"] == ["factual"]
    assert set(groups["answers", "source"]) == {"demo", "rewrite"} - {"rewrite"}


def test_an_unknown_thing_is_refused(demo: Workbench) -> None:
    with pytest.raises(InvalidInput, match="first errors"):
        measure(take(demo), "moods")  # type: ignore[arg-type]


def test_one_rater_or_none_gives_no_figure_and_says_why(workbench: Workbench, add_chats: Any) -> None:
    add_chats(chat("q", 2))
    assert "nobody has judged" in measure(take(workbench), "steps")[0].alpha.why
    add_chats(chat("r", 2, scores("A", 1, 2)))
    snapshot = take(workbench)
    assert "one person only" in measure(snapshot, "steps", "rater")[0].alpha.why
    assert rater_pairs(snapshot, "steps") == []
    add_chats(chat("s", 2, scores("B", 1, 2)))
    assert "no two of them the same thing" in measure(take(workbench), "steps")[0].alpha.why
    assert first_error_distances(take(workbench)).pairs == 0


def test_a_rater_erased_meanwhile_is_gone_from_the_next_snapshot(workbench: Workbench, add_chats: Any) -> None:
    add_chats(chat("q", 3, scores("A", 1, 2, 5)))
    one = workbench.store.chat(workbench.store.search_chats()[0].id)
    ben = workbench.store.for_user(Workbench.session(workbench.add_person("Ben")))
    for step, score in zip(one.steps, (1, 3, 5), strict=True):
        ben.rate(one.id, step.id, score, "stars")
    before = take(workbench)
    assert measure(before, "steps")[0].alpha.value is not None
    ben.erase()
    assert "one person only" in measure(take(workbench), "steps")[0].alpha.why
    assert measure(before, "steps")[0].alpha.value is not None, "a snapshot never changes"


def test_a_rubric_changed_in_the_middle_keeps_old_and_new_words(workbench: Workbench, add_chats: Any) -> None:
    add_chats(chat("q", 1), chat("r", 1))
    store = workbench.store
    people = [store.for_user(Workbench.session(workbench.add_person(name))) for name in ("Ana", "Ben")]
    for version, names in enumerate((["true", "kind"], ["true"]), start=1):
        store.save_rubric(EVERYTHING, [Aspect(name, "?") for name in names])
        one = store.search_chats()[version - 1]
        for k, mine in enumerate(people):
            mine.apply([
                LabelOp(new_id(), "aspect", one.id, None,
                        {"queue": EVERYTHING, "version": version, "aspect": name, "score": 2 + k + version})
                for name in names
            ])  # fmt: skip
    snapshot = take(workbench)
    assert {row.group: row.alpha.units for row in measure(snapshot, "aspects", "aspect")} == {
        "everything": 3,
        "true": 2,
        "kind": 1,
    }
    assert sorted(snapshot.table("aspect_ratings")["rubric_version"].to_pylist()) == [1, 1, 1, 1, 2, 2]


def test_pairs_of_raters(workbench: Workbench, add_chats: Any) -> None:
    """Kappa of [a, b, b, tie] and [a, b, tie, tie], from an import of pairs to the figure: po = 3/4, pe = (1+2+2)/16."""
    votes = [(1, 1), (2, 2), (2, 0), (0, 0)]
    add_chats(
        *({"id": f"p{k}", "query": f"q{k}", "response1": "x", "response2": "y", "votes": list(v)} for k, v in enumerate(votes))
    )
    snapshot = take(workbench)
    frame = judgements(snapshot, "preferences")
    assert len(frame) == 8
    (pair,) = rater_pairs(snapshot, "preferences")
    assert pair.same == 3 / 4
    assert pair.kappa.units == 4
    assert pair.kappa.value is not None


def test_old_snapshots_without_these_tables_are_read(demo: Workbench) -> None:
    import json

    snapshot = take(demo)
    manifest = json.loads((snapshot.folder / "manifest.json").read_text())
    manifest["format"] = 1
    for name in list(manifest["files"]):
        entry = manifest["files"].pop(name)
        table, _, _ = name.partition("/")
        if table in ("chats", "reasoning_steps", "chat_feedback"):
            (snapshot.folder / name).rename(snapshot.folder / f"{table}.parquet")
            manifest["files"][f"{table}.parquet"] = entry
    (snapshot.folder / "manifest.json").write_text(json.dumps(manifest))
    old = snapshots.find(demo, snapshot.id, verify=True)
    assert measure(old, "steps")[0].alpha.value is not None
    assert measure(old, "preferences")[0].alpha.value is None
    assert snapshots.answer(demo, old.id, "position_bias").empty
    assert len(snapshots.answer(demo, old.id, "most_problematic_steps")) == 20


def test_from_the_command_line(workbench: Workbench, add_chats: Any, root: Any) -> None:
    add_chats(chat("q", 3, scores("A", 1, 2, 5), scores("B", 3, 2, 5)))
    take(workbench)
    said = command("agreement", "--on", "first errors", "--by", "source", root=root).stdout
    assert "alpha (interval)  everything: " in said
    assert "kappa  " in said
    assert "distance: 1.000" in said
