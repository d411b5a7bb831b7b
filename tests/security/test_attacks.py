"""What somebody who means harm would try, each refused in words. Hostile texts on pages: ``tests/e2e/test_hostile_pages.py``."""

from __future__ import annotations

import base64
import io
import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rlhf_core.api.rewards import without_special
from rlhf_core.depot.depot import Depot
from rlhf_core.ground.configs import PPOConfig
from rlhf_core.ground.depots import DepotSettings
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound, Problem
from rlhf_core.ground.files import is_plain_name
from rlhf_core.ground.settings import REWARD_FUNCTIONS_VARIABLE, TeamSettings, Workspace
from rlhf_core.intake import reader
from rlhf_core.learn.rewards import FunctionRewards
from rlhf_core.services import backing_up, run_folders, training
from rlhf_core.services.browsers import Browsers
from rlhf_core.services.handing_over import _command
from rlhf_core.services.workbench import Workbench
from tests.api.conftest import Call, assistant, calls, site
from tests.depot.test_depot import artifact

__all__ = ["assistant", "site"]


# Code that comes along.
def test_on_a_teams_store_only_listed_functions_judge(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, tiny_causal: Path
) -> None:
    monkeypatch.setattr("rlhf_core.ground.settings.team_settings", lambda: TeamSettings("https://x.example", "sb_publishable_x"))
    config = PPOConfig(base_model=str(tiny_causal), reward="pydoc:pipepager")
    with pytest.raises(InvalidInput, match="'pydoc:pipepager' is not one that the operator lists"):
        training.add_run(workbench, "ppo", None, config)
    with pytest.raises(InvalidInput, match="is not one that the operator lists"):
        FunctionRewards("os:system")
    monkeypatch.setenv(REWARD_FUNCTIONS_VARIABLE, "tests.runs.rewards:count_e, x:y")
    with pytest.raises(InvalidInput, match=r"lists \(tests.runs.rewards:count_e, x:y\)"):
        FunctionRewards("os:system")
    assert training.runs(workbench) == []


def test_where_who_starts_runs_has_the_machine_any_function_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FunctionRewards("tests.runs.rewards:count_e")
    monkeypatch.setenv(REWARD_FUNCTIONS_VARIABLE, "a:b")  # unless the operator lists some
    with pytest.raises(InvalidInput, match="lists"):
        FunctionRewards("tests.runs.rewards:count_e")


def test_a_saved_state_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"place": {}, "weights": Bad()}, tmp_path / "state.pt")
    with pytest.raises(Exception, match="[Ww]eights.only|Unsupported"):
        torch.load(tmp_path / "state.pt", weights_only=True)
    assert not (tmp_path / "owned").exists()


def test_names_in_a_handed_over_command_are_words_for_the_shell(tmp_path: Path) -> None:
    hostile = f'x$(touch {tmp_path}/a)`touch {tmp_path}/b`";touch {tmp_path}/c;"'
    for to in ("openrlhf", "verl"):
        script = tmp_path / "train.sh"
        script.write_text(
            _command(to, hostile, PPOConfig(base_model="x"), 5, f"http://h/{hostile}", 1).replace("python3 -m", "echo")
        )  # type: ignore[arg-type]
        done = subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert hostile in done.stdout
        assert {path.name for path in tmp_path.iterdir()} == {"train.sh"}


# Names that lead elsewhere.
@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\\b", ".hidden", "a\0b", "-rf", "x" * 101, "a b", "é"])
def test_names_that_are_none(name: str) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize("run_id", ["..", "", ".x", "a/b"])
def test_a_run_of_a_strange_name_is_not_taken_in(workbench: Workbench, tmp_path: Path, run_id: str) -> None:
    row = {
        "id": run_id,
        "kind": "reward",
        "status": "succeeded",
        "config": {},
        "snapshot_id": "",
        "created_at": "2026-01-01T00:00:00.000000Z",
    }
    row |= dict.fromkeys(
        ("requested_by", "started_at", "finished_at", "heartbeat_at", "host", "pid", "pid_create_time", "phase", "total_steps",
         "cancel_requested", "message", "checkpoint_id", "memory_mb", "device", "remedy")
    )  # fmt: skip
    row |= {"step": 0, "priority": 0, "pausing": False}
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "run": row}))
    with pytest.raises(CorruptArtifact, match="is no exported run"):
        run_folders.import_run(workbench, tmp_path)
    row["id"] = "run-1"
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "run": row}))
    assert run_folders.import_run(workbench, tmp_path)[0].id == "run-1"  # the rest of it was right


# Bombs.
def parquet(column: pa.Array, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(pa.table({"query": column, "response": pa.array(["x"] * len(column))}), file, compression="zstd", **options)
    file.seek(0)
    return file


def test_a_value_that_stands_in_every_row_is_not_multiplied() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array(["a" * (32 << 20)]))
    file = parquet(column)
    assert len(file.getvalue()) < 4000
    found = [record for _, record in reader.read_records(file, "bomb.parquet")]
    assert len(found) == 300
    assert all(isinstance(one, Problem) and "longer than 16 MiB (32 MiB)" in one.reason for one in found)


def test_what_is_a_thousand_times_smaller_than_it_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_CHUNK_BYTES", 1 << 20)
    with pytest.raises(InvalidInput, match=r"query holds \d+ MiB in \d+ KiB, which no feedback does"):
        list(reader.read_records(parquet(pa.array(["a" * (1 << 20)] * 40), use_dictionary=False), "bomb.parquet"))


def test_large_rows_come_one_by_one_and_whole() -> None:
    column = pa.array([f"{k}" * (3 << 20) for k in range(8)])
    found = [record for _, record in reader.read_records(parquet(column), "large.parquet")]
    assert [one["query"] if isinstance(one, dict) else one for one in found] == column.to_pylist()


def test_a_json_list_is_read_whole_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_JSON_BYTES", 100)
    with pytest.raises(InvalidInput, match="Make it JSON Lines"):
        list(reader.read_records(io.BytesIO(json.dumps([{"query": "q"}] * 20).encode()), "a.json"))


def test_more_than_was_kept_is_not_fetched(tmp_path: Path) -> None:
    depot, folder = Depot(DepotSettings(f"file://{tmp_path}/depot")), artifact(tmp_path / "here")
    depot.push("snapshots", folder)
    depot.filesystem.pipe_file(depot.path("snapshots", "a1", "deep/f1"), b"x" * (64 << 20))
    largest = 0

    real = Path.unlink

    def watched(path: Path, *arguments: Any, **named: Any) -> None:
        nonlocal largest
        if path.suffix == ".part" and path.is_file():
            largest = max(largest, path.stat().st_size)
        real(path, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", watched)
        with pytest.raises(CorruptArtifact, match="is missing or not what was sent"):
            depot.pull("snapshots", "a1", tmp_path / "there")
    assert 2000 < largest <= 16 << 20  # a block beyond what it should be


@pytest.mark.parametrize("tail", ["</s>", " ", "<|im_end|>\n", "<|", "\n\n</s> <eos>", "x"])
def test_a_policy_that_only_ends_costs_no_minutes(tail: str) -> None:
    text = "Call them." + tail * (200_000 // len(tail))
    assert without_special(text).startswith("Call them.")
    if tail.strip() in ("</s>", "<|im_end|>", "</s> <eos>"):
        assert without_special(text) == "Call them."


def test_what_stays_of_an_answer() -> None:
    assert without_special("a </s> b <|im_end|> </s>\n") == "a </s> b"
    assert without_special("a  ") == "a  "  # nothing was decoded along
    assert without_special("") == without_special("</s>") == ""


# Tickets.
@pytest.mark.parametrize("body", ["[" * 20_000, "[" * 300, "{}", "[1,2,3]", '["a","b","c"]', "null", '"x"', "[[],[],[]]"])
def test_made_up_tickets_are_strange_not_faults(site: Any, assistant: Call, body: str) -> None:
    ticket = "rlhfv." + base64.urlsafe_b64encode(body.encode()).decode() + ".c2lnbmVk"
    answer = calls(site, ticket)("GET", "/me", 401)
    assert "not made here" in answer["detail"]


# Who may read what lies on the disk.
def test_what_a_workspace_and_its_backups_show_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def modes(root: Path) -> int:
        return stat.S_IMODE(root.stat().st_mode)

    workbench = Workbench(Workspace.resolve(tmp_path / "new"))
    assert modes(tmp_path / "new") == 0o700
    seen: list[int] = []
    real = backing_up._copy

    def copy(source: Path, target: Path) -> None:
        seen.append(modes(target.parent))
        real(source, target)

    monkeypatch.setattr(backing_up, "_copy", copy)
    backup = backing_up.back_up(workbench, tmp_path / "backup")
    workbench.close()
    assert seen
    assert set(seen) == {0o700}  # while it is made
    assert modes(backup) == 0o700
    restored, _ = backing_up.restore(backup, tmp_path / "restored")
    restored.close()
    assert modes(tmp_path / "restored") == 0o700


# Sessions.
def test_a_session_that_was_chosen_for_somebody_stays_nobodys() -> None:
    """What a browser brought before somebody signed in stands for nobody, then and later: each sign-in has a value of its own."""

    class Guest:
        alive = True

    browsers: Browsers[Guest] = Browsers()
    chosen = "chosen-by-an-attacker"
    assert browsers.whose(chosen) is None
    ana, ben = Guest(), Guest()
    values = [browsers.redeem(browsers.remember(one)) for one in (ana, ben, ana)]
    assert len({chosen, *values}) == 4
    assert all(value is not None and len(value) >= 40 for value in values)
    assert [browsers.whose(str(value)) for value in values] == [ana, ben, ana]
    assert browsers.whose(chosen) is None
    ticket = browsers.forget(ana)
    assert browsers.redeem(ticket) is None  # takes the cookie away
    assert browsers.whose(str(values[0])) is browsers.whose(str(values[2])) is None
    with pytest.raises(NotFound):
        browsers.redeem(ticket)  # a ticket is good once
