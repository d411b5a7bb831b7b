"""Where runs go, sweeps, and copies elsewhere, on their pages."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground import depots, engines, settings
from rlhf_core.ground.engines import Capacity, EngineSettings, Node
from rlhf_core.ground.errors import EngineUnavailable
from rlhf_core.ground.runs import METRICS_FILE
from rlhf_core.services import keeping, snapshots, sweeping, training
from rlhf_core.services.background import Background
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys
from tests.conftest import learnable_chats
from tests.pages.test_pages import check, open_page, texts
from tests.supervisor.test_supervise import until


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_core.inference.client.ScoringClient.warm", lambda _: None)


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_capacities", Background(0.0))
    monkeypatch.setattr(keeping, "_listings", Background(0.0))


@pytest.fixture
def snapshot_id(workbench: Workbench, add_chats: Any) -> str:
    add_chats(*learnable_chats())
    return snapshots.take(workbench)[0].id


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "engines", lambda: [EngineSettings("cluster", "ray", "http://127.0.0.1:9")])
    found = Capacity([Node("a", 8, 3, 64, 40, 512_000, 300_000)], 2, 5)
    monkeypatch.setattr(training, "capacity", lambda workbench, engine: found)


def test_a_run_is_sent_to_a_cluster(workbench: Workbench, snapshot_id: str, cluster: None) -> None:
    app = check(open_page("train.py"))
    app.button(key="train:new:reward").click().run()
    app.button_group(key="train:engine").set_value("cluster").run()
    until(lambda: "3 of 8 GPUs, 40 of 64 processors free; 5 jobs run there, 2 wait." in texts(check(app.run())))
    app.number_input(key=keys.option("reward:needs", "gpus")).set_value(2)
    app.button[[one.label for one in app.button].index("Start training")].click().run()
    check(app)
    (run,) = training.runs(workbench)
    assert (run.engine, run.resources, run.status) == ("cluster", {"gpus": 2}, "queued")
    assert "by cluster" in texts(app)
    workbench.ledger.say_phase(run.id, "waiting for cluster to begin it")
    app = check(open_page("train.py", run=run.id))
    assert "by cluster" in texts(app)


def test_a_cluster_that_is_away_is_said_and_the_form_stays(
    workbench: Workbench, snapshot_id: str, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(workbench: Workbench, engine: str) -> Capacity:
        raise EngineUnavailable("cluster does not answer.")

    monkeypatch.setattr(training, "capacity", away)
    app = check(open_page("train.py"))
    app.button(key="train:new:reward").click().run()
    app.button_group(key="train:engine").set_value("cluster").run()
    until(lambda: "cluster does not answer. A run would wait until it does." in texts(check(app.run())))
    assert "Start training" in [one.label for one in app.button]


def test_wrong_settings_are_said_on_the_form(
    workbench: Workbench, snapshot_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "secrets.toml"
    secrets.write_text("[engines.c]\nkind = 'k8s'\n")
    monkeypatch.setattr(settings, "SECRETS_FILES", (secrets,))
    app = check(open_page("train.py"))
    app.button(key="train:new:reward").click().run()
    assert "expected ray or slurm" in texts(check(app))
    assert "Start training" in [one.label for one in app.button]


def test_a_sweep_from_the_form_to_its_table(workbench: Workbench, snapshot_id: str) -> None:
    app = check(open_page("train.py"))
    app.button(key="train:new:reward").click().run()
    app.toggle(key="train:sweep:reward").set_value(True).run()
    start = [one.label for one in app.button].index("Start all of them")
    app.text_area(key="train:varied:reward").set_value("speed = 1, 2")
    app.button[start].click().run()
    assert "'speed' cannot be varied" in texts(check(app))
    assert training.runs(workbench) == []
    app.text_area(key="train:varied:reward").set_value("learning_rate = 1e-5, 1e-3\nepochs = 1, 2")
    app.button[[one.label for one in app.button].index("Start all of them")].click().run()
    check(app)
    (sweep,) = sweeping.sweeps(workbench)
    assert sweep.runs == 4
    app = open_page("runs.py")
    app.session_state[keys.RUNS_VIEW] = "sweeps"
    check(app.run())
    assert "Nothing was measured on validation data yet." in texts(app)
    for k, row in enumerate(sweeping.results(workbench, sweep.name).rows):
        line = {"time": 1.0, "split": "validation", "step": 1, "epoch": 1, "rmse": 1.0 - k / 10, "spearman": k / 10}
        (workbench.workspace.run_folder(row.run.id) / METRICS_FILE).write_text(json.dumps(line) + "\n")
    check(app.run())
    table = app.dataframe[0].value
    assert list(table["Error, validation"]) == sorted(table["Error, validation"])
    assert {"learning_rate", "epochs"} <= set(table.columns)
    app.button[[one.label for one in app.button].index("Cancel what is not over")].click().run()
    check(app)
    assert {run.status for run in training.runs(workbench)} == {"cancelled"}


def test_copies_elsewhere_are_sent_from_the_page(
    workbench: Workbench, snapshot_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Copies elsewhere" not in texts(check(open_page("snapshots.py")))
    monkeypatch.setenv(depots.DEPOT_VARIABLE, f"file://{tmp_path / 'nas'}")
    app = check(open_page("snapshots.py"))
    assert "Copies elsewhere" in texts(app)

    def where() -> list[str]:
        found = check(app.run()).dataframe
        return [*found[0].value["where"]] if found else []

    until(lambda: where() == ["here alone"])
    app.button(key="depot:send:snapshots").click().run()
    until(lambda: where() == ["both"])
    monkeypatch.setenv(depots.DEPOT_VARIABLE, "nowhere")
    assert "expected PROTOCOL\\://PLACE" in texts(check(open_page("snapshots.py")))
    monkeypatch.setenv(depots.DEPOT_VARIABLE, "nowhere://place")
    app = check(open_page("snapshots.py"))
    until(lambda: "nowhere" in "".join(str(one.value) for one in check(app.run()).warning))
