"""Every page through the frame: empty, with the demo set, after the loop has gone round, and when something fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.ground import machine
from rlhf_core.ground.answers import AnswerScore
from rlhf_core.ground.applications import Caller
from rlhf_core.ground.configs import CONFIGS, PRESETS, PPOConfig, RewardConfig
from rlhf_core.ground.errors import NotFound, RunRefused, SignInRequired, StoreUnavailable
from rlhf_core.ground.metrics import PPO_METRICS
from rlhf_core.ground.records import EVERYTHING, LabelOp, Queue, new_id
from rlhf_core.ground.settings import PROJECT_ROOT
from rlhf_core.services import attacking, collecting, comparing, labeling, scoring, snapshots, training
from rlhf_core.services.playing import Voice
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.sqlite import SqliteUserStore
from rlhf_core.ui import keys
from tests.checkpoints.test_registry import make
from tests.conftest import chosen_pairs, learnable_chats, write_lines
from tests.pages.opening import frame

PAGES = sorted(path.name for path in (PROJECT_ROOT / "pages").glob("*.py") if path.name != "frame.py")


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compare page starts the scoring process ahead of time; that is tested with the real process elsewhere."""
    monkeypatch.setattr("rlhf_core.inference.client.ScoringClient.warm", lambda _: None)


def open_page(name: str, **query: str) -> AppTest:
    app = frame().run()
    for key, value in query.items():
        app.query_params[key] = value
    app.switch_page(name).run()
    return app


def pick(app: AppTest, name: str, row: str) -> AppTest:
    """Press a row of a list."""
    return check(app.button(key=f"{name}:row:{row}").click().run())


def check(app: AppTest) -> AppTest:
    assert not app.exception, [one.value for one in app.exception]
    return app


def texts(app: AppTest) -> str:
    kinds = ("title", "subheader", "markdown", "caption", "info", "success", "warning", "error", "code")
    return "\n".join(str(one.value) for kind in kinds for one in getattr(app, kind))


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_on_an_empty_workspace_and_says_what_to_do(name: str, root: Path) -> None:
    app = check(open_page(name))
    assert app.title
    assert any(
        word in texts(app)
        for word in (
            "demo set",
            "Take one",
            "import",
            "Import",
            "Train one",
            "Train a reward model",
            "then take one",
            "bring your own",
            "Teams use Supabase",
            "rated nothing yet",
            "A queue hands",
            "nothing to choose between",
            "Nobody disagrees",
            "Let one in below",
        )
    )


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_when_the_loop_has_gone_round(name: str, judged: Workbench) -> None:
    demo = judged
    snapshot, _ = snapshots.take(demo)
    checkpoint = make(demo.workspace.checkpoints)
    run = demo.ledger.add("r1", "reward", {"reward_base_model": "minilm-l6"}, snapshot.id, None, "h")
    (demo.workspace.run_folder("r1")).mkdir()
    (demo.workspace.run_folder("r1") / "metrics.jsonl").write_text(
        '{"time": 1, "split": "train", "step": 1, "epoch": 1, "loss": 1.0}\n'
        '{"time": 2, "split": "train", "step": 2, "epoch": 1, "loss": 0.5}\n'
        '{"time": 3, "split": "validation", "epoch": 1, "step_auc": 0.7, "rmse": 1.0}\n{"time": 4, "split": "te'
    )
    demo.ledger.finish(run.id, "succeeded", "fine $5", checkpoint.id)
    check(open_page(name, run="r1") if name == "train.py" else open_page(name))


def test_the_demo_set_is_one_click_away(workbench: Workbench) -> None:
    app = open_page("home.py")
    next(button for button in app.button if button.label == "Load the demo set").click()
    check(app.run())
    assert workbench.counts().chats == 76
    assert "This workspace is empty" not in texts(app)


def pad(app: AppTest) -> dict[str, Any]:
    """What the pad on the label page was given; what it does with it is tested in a browser."""
    given = [json.loads(one.proto.json) for one in app.get("bidi_component")]
    (chats,) = [data for data in given if isinstance(data, dict) and "items" in data]
    (acks,) = [data for data in given if isinstance(data, dict) and "outcomes" in data]
    return chats | acks


def test_the_pad_gets_the_next_chats(demo: Workbench) -> None:
    data = pad(check(open_page("label.py")))
    assert [len(data["items"]), data["progress"], data["outcomes"]] == [3, {"submitted": 0, "items": 60}, {}]
    first = data["items"][0]
    assert (first["ratings"], first["first_error"], first["flags"]) == ({}, None, [])
    assert first["steps"][0]["html"].startswith("<p>")
    again = pad(check(open_page("label.py")))
    assert [one["chat"] for one in again["items"]] == [one["chat"] for one in data["items"]], "a refresh keeps what one has"


def test_a_chat_in_the_address_is_opened_for_a_second_look(demo: Workbench) -> None:
    session = Workbench.session(demo.people()[0])
    chat = demo.store.search_chats(limit=9)[8]
    demo.store.for_user(session).rate(chat.id, None, 2, "stars")
    data = pad(check(open_page("label.py", chat=chat.id)))
    assert data["editing"]
    assert [one["chat"] for one in data["items"]] == [chat.id]
    assert data["items"][0]["ratings"] == {"": {"score": 2, "scale": "stars", "comment": ""}}


def test_a_menu_of_queues_where_there_are_several(demo: Workbench) -> None:
    assert not open_page("label.py").selectbox
    solar = demo.store.save_queue(Queue(new_id(), "Solar", words="solar", guidelines="# Look <script>"))
    app = open_page("label.py")
    app.selectbox[0].set_value(solar.id).run()
    data = pad(check(app))
    assert (data["queue"], data["queue_id"]) == ("Solar", solar.id)
    assert data["guidelines"].startswith("<h1>Look &lt;script&gt;")
    assert all("solar" in one["query"].lower() for one in data["items"])


def test_everything_rated(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "steps": ["a"]})
    session = Workbench.session(workbench.people()[0])
    (view,) = labeling.claim(workbench, session, EVERYTHING, 1)
    labeling.apply(workbench, session, [LabelOp(new_id(), "submit", view.chat.id, None, {"queue": EVERYTHING})])
    data = pad(check(open_page("label.py")))
    assert data["items"] == []
    assert "Thank you" in data["done"]


def test_a_chat_that_is_gone(demo: Workbench) -> None:
    app = check(open_page("label.py", chat="nowhere"))
    assert "There is no chat 'nowhere'" in texts(app)
    next(one for one in app.button if one.label == "Go to the next one").click().run()
    assert len(pad(check(app))["items"]) == 3


def test_a_store_that_fails_is_met_on_the_page(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise StoreUnavailable("The store is away. Try again.")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteUserStore, "claim", down)
        app = check(open_page("label.py"))
    assert "The store is away. Try again." in texts(app)
    next(one for one in app.button if one.label == "Try again").click().run()
    assert len(pad(check(app))["items"]) == 3


def test_a_queue_is_made_changed_and_closed(demo: Workbench) -> None:
    app = check(open_page("queues.py"))
    assert "1 rater each · 0 of 60 chats finished" in texts(app).replace("\\:", ":")
    next(one for one in app.button if one.label == "New queue").click().run()
    box = {one.label: one for one in app.text_input}
    box["Name"].set_value("Solar")
    box["Only questions with these words"].set_value("solar")
    app.text_area[0].set_value("# Rules")
    app.number_input[0].set_value(3)
    next(one for one in app.button if one.label == "Save").click().run()
    check(app)
    made = demo.store.queues()[2]
    assert (made.name, made.words, made.guidelines, made.overlap, made.lease_s) == ("Solar", "solar", "# Rules", 3, 1800)
    next(one for one in app.text_input if one.label == "Name").set_value("Everything")
    next(one for one in app.button if one.label == "Save").click().run()
    assert "named 'Everything' already" in texts(check(app))
    next(one for one in app.button if one.label == "Close it").click().run()
    assert check(app)
    assert demo.store.queues()[2].archived


def test_my_work(demo: Workbench) -> None:
    assert "You have rated nothing yet" in texts(check(open_page("work.py")))
    mine = demo.store.for_user(Workbench.session(demo.people()[0]))
    chat = demo.store.search_chats(limit=1)[0]
    for score in (5, 2):
        mine.rate(chat.id, None, score, "stars")
    app = check(open_page("work.py"))
    assert "1 rating · 2.0 stars" in texts(app)
    pick(app, "work", chat.id)
    assert any("5 of 5 (changed since)" in one.value for one in check(app).text)
    mine.claim(EVERYTHING, 2)
    next(one for one in app.button if one.label == "Give back the chats I hold").click().run()
    with demo._database.connection() as connection:
        assert connection.execute("SELECT count(*) FROM assignments").fetchone() == (0,)
    next(one for one in app.checkbox if one.label == "I know that this cannot be undone").check().run()
    next(one for one in app.button if one.label == "Delete my feedback").click().run()
    assert "You have rated nothing yet" in texts(check(app))
    assert not any(mine.everything().values())


def test_money_is_not_read_as_mathematics(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "costs $5 or $10?", "steps": [r"so \(x^2\) and $y_1$", "![x](http://example.org/a.png) :red[no]"]})
    item = pad(open_page("label.py"))["items"][0]
    assert item["query"] == "<p>costs $5 or $10?</p>\n"
    assert item["steps"][0]["html"].count("<math") == 2
    assert "<img" not in item["steps"][1]["html"]


def test_people_rate_as_themselves(demo: Workbench) -> None:
    app = open_page("account.py")
    next(one for one in app.text_input if one.label == "Somebody new").set_value("Ana").run()
    people = {one.display_name: one.user_id for one in demo.people()}
    assert app.radio[0].value == people["Ana"]
    app.switch_page("label.py").run()
    assert "Ana" in [one.proto.label for one in app.get("page_link")]
    assert pad(app)["user"] == people["Ana"]
    app.switch_page("account.py").run()
    next(one for one in app.text_input if one.label == "Somebody new").set_value("ana").run()
    assert "is here already" in texts(app)
    other = next(user_id for name, user_id in people.items() if name != "Ana")
    app.radio[0].set_value(other).run()
    app.switch_page("label.py").run()
    assert pad(app)["user"] == other


def test_importing_in_the_app(workbench: Workbench, tmp_path: Path) -> None:
    good = write_lines(tmp_path / "good.jsonl", learnable_chats(3))
    app = open_page("upload.py")
    app.file_uploader[0].set_value([(good.name, good.read_bytes(), "application/jsonl")]).run()
    assert "it begins with:" in texts(check(app))
    assert len(app.dataframe[0].value) == 3
    assert workbench.counts().chats == 0
    next(button for button in app.button if button.label == "Import").click().run()
    assert "added 3 chats" in texts(check(app))
    assert not app.dataframe
    bad = write_lines(tmp_path / "bad.jsonl", [{"query": "q"}, {"query": "q", "response": "r", "score": 6}])
    app.file_uploader[0].set_value([(bad.name, bad.read_bytes(), "application/jsonl")]).run()
    next(button for button in app.button if button.label == "Import").click().run()
    assert "nothing was imported, because of 2 bad lines" in texts(check(app))
    assert app.dataframe[0].value["line"].tolist() == [1, 2]
    assert workbench.counts().chats == 3


def test_a_snapshot_at_a_click(demo: Workbench) -> None:
    app = open_page("snapshots.py")
    next(button for button in app.button if button.label == "Take a snapshot").click().run()
    (taken,) = snapshots.listing(demo)
    assert app.query_params["snapshot"] in (taken.id, [taken.id])
    assert "Every file is the one that was written" not in texts(check(app))
    next(button for button in app.button if button.label == "Check every file").click().run()
    assert "Every file is the one that was written" in texts(check(app))
    for view, words in (
        ("Made from it", "No run has used it yet"), ("Compare", "no other snapshot"), ("Export", "python -m rlhf_core export"),
        ("Remove", "a note that it was there stays"),
    ):  # fmt: skip
        app.segmented_control[0].set_value(view).run()
        assert words in texts(check(app)), view
    next(button for button in app.button if button.label.startswith("Remove ")).click().run()
    assert "No snapshot yet" in texts(check(app))


def open_form() -> AppTest:
    app = open_page("train.py")
    next(button for button in app.button if button.label == "New reward model").click().run()
    app.toggle[0].set_value(True).run()
    return app


def test_launching_a_run_queues_it_with_its_config(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    app = open_form()
    next(one for one in app.number_input if one.label == "Epochs").set_value(1)
    next(one for one in app.number_input if one.label == "Max steps").set_value(2)
    next(button for button in app.button if button.label == "Start training").click().run()
    (run,) = training.runs(demo)
    assert (run.status, run.snapshot_id, run.requested_by) == ("queued", snapshot.id, demo.name)
    assert (run.config["epochs"], run.config["max_steps"], run.config["reward_base_model"]) == (1, 2, "minilm-l6")
    assert run.id in texts(check(app))
    next(button for button in app.button if button.label == "Cancel").click().run()
    assert training.run(demo, run.id).status == "cancelled"
    assert "Cancelled before it started" in texts(check(app))


def labels(app: AppTest) -> set[str]:
    return {button.label for button in app.button}


def test_a_look_before_the_start(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots.take(demo)
    app = open_form()
    press(app, "Check first")
    shown = texts(app)
    for words in ("It needs about", "It will write about", "raters have not said", "It takes"):
        assert words in shown, words
    assert "activations of 1,024 tokens" in str([one.value for one in app.dataframe])
    assert training.runs(demo) == []
    assert "Start all the same" not in labels(app)

    # what will not work is not started by chance
    monkeypatch.setattr(machine, "cpu", lambda: machine.Device("cpu", "2 processors", 200, 100))
    press(app, "Start training")
    assert "There are 200 MiB in all" in texts(app)
    assert training.runs(demo) == []
    press(app, "Start all the same")
    (run,) = training.runs(demo)
    assert (run.status, run.memory_mb and run.memory_mb > 500) == ("queued", True)


def test_presets_fill_the_form(demo: Workbench) -> None:
    snapshots.take(demo)
    app = open_page("train.py")
    press(app, "New reward model")
    app.segmented_control[0].set_value("small-gpu").run()
    assert next(one for one in app.selectbox if one.label == "Method").value == "lora"
    press(app, "Start training")
    (run,) = training.runs(demo)
    preset = PRESETS["reward"]["small-gpu"]
    assert {name: run.config[name] for name in preset} == preset  # also those that the short form does not show


def test_a_run_is_held_back_moved_up_and_run_again(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    config = RewardConfig.parse({"reward_base_model": "minilm-l6"})
    first, second = (training.add_run(demo, "reward", snapshot.id, config) for _ in range(2))
    app = check(open_page("train.py", run=second.id))
    press(app, "Start before others")
    assert [run.id for run in demo.ledger.unfinished()] == [second.id, first.id]
    assert "Start before others" not in labels(app)
    press(app, "Pause")
    assert training.run(demo, second.id).status == "paused"
    assert {"Go on", "Cancel"} <= labels(app)
    assert "Pause" not in labels(app)
    press(app, "Go on")
    assert training.run(demo, second.id).status == "queued"
    press(app, "Cancel")
    assert training.run(demo, second.id).status == "cancelled"
    press(app, "Run again")
    newest = training.runs(demo)[0]
    assert newest.id not in (first.id, second.id)
    assert (newest.config, newest.snapshot_id, newest.status) == (second.config, second.snapshot_id, "queued")

    # while it is at work, a pause is asked for once, and may become a cancel
    demo.ledger.claim(newest.id, "h")
    app = check(open_page("train.py", run=newest.id))
    press(app, "Pause")
    assert "Pausing …" in labels(app)
    assert "Pause" not in labels(app)
    press(app, "Cancel")
    assert (training.run(demo, newest.id).pausing, training.run(demo, newest.id).status) == (False, "running")
    assert "Stopping …" in labels(app)


def test_a_run_that_ran_out_of_memory_is_tried_again_with_less(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    run = training.add_run(demo, "reward", snapshot.id, RewardConfig.parse({"reward_base_model": "minilm-l6"}))
    demo.ledger.claim(run.id, "h")
    demo.ledger.finish(run.id, "failed", "Memory ran out: so much.", None, {"micro_batch_tokens": 256})
    app = check(open_page("train.py", run=run.id))
    assert "Memory ran out" in texts(app)
    press(app, "Try again with less memory")
    newest = training.runs(demo)[0]
    assert newest.config == run.config | {"micro_batch_tokens": 256}


def test_a_run_whose_method_starts_over_is_not_paused(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    run = training.add_run(demo, "reward", snapshot.id, RewardConfig.parse({"reward_base_model": "minilm-l6", "method": "head"}))
    demo.ledger.claim(run.id, "h")
    assert "Pause" not in labels(check(open_page("train.py", run=run.id)))
    with pytest.raises(RunRefused, match="cannot go on from its middle"):
        training.pause(demo, run.id)


def test_runs_are_found_compared_and_traced(demo: Workbench) -> None:
    app = check(open_page("runs.py"))
    assert "No run yet" in texts(app)
    snapshot, _ = snapshots.take(demo)
    first = ppo_run(demo)
    run = training.add_run(demo, "reward", snapshot.id, RewardConfig.parse({"reward_base_model": "minilm-l6"}))
    app = check(open_page("runs.py"))
    assert "2 runs. Mark one to open it, two or more" in texts(app)
    app.multiselect[0].set_value(["reward"]).run()
    assert list(check(app).dataframe[0].value["run"]) == [run.id]
    app.multiselect[0].set_value([])
    app.text_input[0].set_value("POLICY-1").run()
    assert list(check(app).dataframe[0].value["run"]) == [first]

    app = check(open_page("runs.py"))
    app.segmented_control[0].set_value("lineage").run()
    app.selectbox[0].set_value(first).run()
    assert "Learned from" not in texts(check(app))  # on example questions
    app.selectbox[0].set_value(run.id).run()
    assert f"Learned from 1 snapshot: {snapshot.id}" in texts(check(app))
    app.segmented_control[0].set_value("storage").run()
    assert "No checkpoint and no saved state yet" in texts(check(app))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("reward", {"reward_base_model": "minilm-l6", "method": "lora", "epochs": 7, "learning_rate": 3e-4, "seed": 5}),
        ("sft", {"base_model": "tiny", "epochs": 2.0, "min_score": 3.5}),
        ("generate", {"base_model": "policy", "answers": 3, "max_queries": None, "temperature": 0.7}),
        ("ppo", {"base_model": "policy", "reward": "tests.runs.rewards:count_e", "ppo_steps": 7, "kl_goal": 3.0, "seed": 2}),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)  # fmt: skip
def test_a_runs_options_are_changed_in_the_form(demo: Workbench, kind: Any, options: dict[str, Any]) -> None:
    snapshot, _ = snapshots.take(demo)
    if options.get("base_model") == "policy":
        options |= {"base_model": make(demo.workspace.checkpoints, kind="policy").id}
    run = training.add_run(demo, kind, snapshot.id, CONFIGS[kind].parse(options))
    demo.ledger.claim(run.id, "h")
    demo.ledger.finish(run.id, "failed", "It went wrong.", None)
    snapshots.take(demo, days=1)  # a newer one, which this run did not have
    app = check(open_page("train.py", run=run.id))
    check(app.button(key=f"train:change:{run.id}").click().run())
    assert not app.warning
    start = "Start writing" if kind == "generate" else "Start training"
    check(next(one for one in app.button if one.label == start).click().run())
    again = next(one for one in training.runs(demo) if one.id != run.id)
    assert (again.config, again.snapshot_id) == (run.config, run.snapshot_id)


def test_a_wrong_form_is_refused_with_a_reason(demo: Workbench) -> None:
    snapshots.take(demo)
    app = open_form()
    next(one for one in app.number_input if one.label == "Test fraction").set_value(0.6)
    next(one for one in app.number_input if one.label == "Validation fraction").set_value(0.6)
    next(button for button in app.button if button.label == "Start training").click().run()
    assert "leave less than 5% to train on" in texts(check(app))
    assert training.runs(demo) == []


def ppo_run(workbench: Workbench) -> str:
    """A run of PPO that has written what such runs write."""
    config = PPOConfig.parse({"base_model": "policy-1", "reward": "reward-1"})
    run = workbench.ledger.add("p1", "ppo", config.model_dump(), "", None, "elsewhere")
    folder = workbench.workspace.run_folder(run.id)
    folder.mkdir(parents=True)
    step = dict.fromkeys(PPO_METRICS, 0.5)
    lines: list[dict[str, Any]] = [{"time": k, "split": "train", "step": k, **step, "reward": 2 + k / 10} for k in range(1, 8)]
    table = {"reward": 2.0, "kl": 0.0, "tokens": 30, "ended": 1.0, "repetition": 0.0, "judge": 3.0, "judge_std": 1.0}
    lines += [{"time": 9, "split": "validation", "step": at, **table} for at in (0, 5)]
    lines.append({"time": 9, "split": "alarm", "step": 5, "name": "length", "words": "answers went from 30 to *90* tokens"})
    write_lines(folder / "metrics.jsonl", lines)
    sample = {"of": "held out", "query": "how do I start", "kl": 0.1, "tokens": 9, "ended": True}
    write_lines(folder / "samples.jsonl", [
        {"step": 0, "answer": "Go.", "steps": ["Go."], "rewards": [1.5], "reward": 1.5} | sample,
        {"step": 5, "answer": "<b>Call</b> first.", "steps": [], "rewards": [4.25], "reward": 4.25} | sample,
    ])  # fmt: skip
    workbench.ledger.finish(run.id, "succeeded", "policy-2: done", None)
    return run.id


def test_a_policys_run_shows_its_curves_alarms_and_answers(demo: Workbench) -> None:
    app = check(open_page("train.py", run=ppo_run(demo)))
    shown = texts(app)
    for words in (
        "policy improved", "five example questions", "Length", "answers went from 30 to", "KL to the reference",
        "Before and after", "reward 1.50", "reward 4.25",
    ):  # fmt: skip
        assert words in shown, words
    assert {"1.50  Go.", "<b>Call</b> first."} <= {one.value for one in app.text}  # as they were written


def test_policies_are_taught_and_improved_from_forms(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    app = open_page("train.py")
    next(button for button in app.button if button.label == "Teach a policy").click().run()
    next(button for button in app.button if button.label == "Start training").click().run()
    (run,) = training.runs(demo)
    assert (run.kind, run.snapshot_id, run.config["base_model"]) == ("sft", snapshot.id, "tiny")
    assert "policy taught" in texts(check(app))

    app = open_page("train.py")
    next(button for button in app.button if button.label == "Improve a policy").click().run()
    next(button for button in app.button if button.label == "Start training").click().run()
    assert "Choose a policy to begin with" in texts(check(app))
    assert len(training.runs(demo)) == 1


def test_comparing_shows_rewards_and_failures_side_by_side(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    make(demo.workspace.checkpoints)
    labels = [one.label for one in comparing.candidates(demo)]

    def compare(_: Workbench, chosen: Any, query: str, places: Any) -> comparing.Comparison:
        return comparing.Comparison(
            query, places, {labels[1]: [2.5] * len(places)}, {labels[0]: "corrupt file"}, {labels[1]: 3}, {}
        )

    monkeypatch.setattr(comparing, "compare", compare)
    app = open_page("compare.py")
    next(button for button in app.button if button.label == "Compare").click().run()
    words = texts(check(app))
    assert "corrupt file" in words
    assert "3 tokens in the middle were left out" in words
    table = app.dataframe[0].value
    assert table["place"].tolist()[-1] == "Whole answer"
    assert set(table[labels[1]]) == {2.5}
    assert table["people"].notna().any()


@pytest.mark.slow
def test_a_set_is_compared_part_by_part(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards are lengths here; real ones are compared in the browser."""

    def score(_: Workbench, refs: Any, answers: Any, on_progress: Any = None) -> list[Any]:
        on_progress(1, 1)
        return [
            NotFound("gone") if ref.base else
            [AnswerScore(len(one.response) / (k + 60), [1 + len(s) % 5 for s in one.steps], 3) for one in answers]
            for k, ref in enumerate(refs)
        ]  # fmt: skip

    monkeypatch.setattr(scoring, "score_answers", score)
    app = open_page("compare.py")
    app.segmented_control[0].set_value("set").run()
    assert "Train one first" in texts(app) or "There is no snapshot yet" in texts(check(app))
    snapshots.take(demo)
    first, second = make(demo.workspace.checkpoints, "one"), make(demo.workspace.checkpoints, "two")
    app = open_page("compare.py")
    app.segmented_control[0].set_value("set").run()
    (checkpoints,) = [one for one in app.multiselect if one.label == "Checkpoints"]
    assert len(checkpoints.value) == 2  # the trained ones: how they differ from an untrained one is another question
    checkpoints.set_value([*checkpoints.value, "untrained base"]).run()
    next(button for button in app.button if button.label == "Compare").click().run()
    words = texts(check(app))
    assert "60 answers" in words
    assert "untrained base\\: gone" in words
    assert "60 answers too long for a checkpoint" in words
    assert {first.id, second.id} <= {column.split(" ")[0] for column in app.dataframe[0].value.columns}
    for part, said in (
        ("between", "Rank correlation, steps"), ("people", "AUC"), ("slices", "Steps"), ("best", "No question here has several"),
    ):  # fmt: skip
        next(one for one in app.segmented_control if one.key == keys.COMPARE_PART).set_value(part).run()
        assert said in texts(check(app)) or any(said in frame.value.columns for frame in app.dataframe)
    next(one for one in app.segmented_control if one.key == keys.COMPARE_PART).set_value("apart").run()
    next(one for one in app.text_input if one.label == "Queue").set_value("Apart")
    next(button for button in app.button if button.label == "Send the uppermost to labelling").click().run()
    assert "The queue Apart hands out" in texts(check(app))
    next(button for button in app.button if button.label == "Send the uppermost to labelling").click().run()
    assert "Apart" in texts(check(app))  # a second queue of that name is refused in words
    assert len([one for one in demo.store.queues() if one.name == "Apart"]) == 1


def test_answers_are_asked_for_from_a_form_and_put_into_the_store(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    policy = make(demo.workspace.checkpoints, kind="policy")
    app = check(open_page("train.py"))
    check(app.button(key="train:new:generate").click().run())
    check(next(one for one in app.button if one.label == "Check first").click().run())
    assert "different queries" in texts(app)
    check(next(one for one in app.button if one.label == "Start writing").click().run())
    (run,) = training.runs(demo)
    assert (run.kind, run.snapshot_id, run.config["base_model"], run.config["answers"]) == ("generate", snapshot.id, policy.id, 2)
    assert training.command_of(demo, run)[1:4] == ["-m", "rlhf_core", "generate"]
    (demo.workspace.run_folder(run.id) / "answers.jsonl").write_text(
        json.dumps({"query": "How :red[now]?", "response": "Call $5.", "model": policy.id, "ended": True, "last": True}) + "\n"
    )
    with (demo.workspace.run_folder(run.id) / "metrics.jsonl").open("a") as file:
        file.write(
            json.dumps({"time": 1.0, "split": "train", "step": 4, "ended": 0.5, "characters": 80, "answers_per_s": 2.5}) + "\n"
        )
    demo.ledger.claim(run.id, "h")
    demo.ledger.finish(run.id, "cancelled", "Stopped after 4 of 8 answers.", None)
    app = check(open_page("train.py", run=run.id))
    assert {one.label: one.value for one in app.metric}["Ended by themselves"] == "50%"
    assert training.can_resume(demo, training.run(demo, run.id))
    before = demo.counts().chats
    check(app.button(key=f"train:store:{run.id}").click().run())
    assert demo.counts().chats == before + 1
    check(app.button(key=f"train:resume:{run.id}").click().run())
    assert training.runs(demo)[0].config["resume_from"] == run.id


def test_two_policies_answer_and_what_was_seen_is_kept(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"policy-a": "1. Call :red[them].\n2. Pay $5 and $6.", "policy-b": "Just go."}

    def stream(_: Any, policy: str, query: str, **how: Any) -> Any:
        yield from said[policy]
        return True

    monkeypatch.setattr("rlhf_core.inference.client.ScoringClient.stream", stream)
    monkeypatch.setattr("rlhf_core.services.playing.voices", lambda _: [Voice("policy", one, "taught") for one in said])
    monkeypatch.setattr("rlhf_core.services.comparing.candidates", lambda _: [])
    chats, pairs = demo.counts().chats, len(chosen_pairs(demo))
    app = check(open_page("playground.py"))
    assert "Ask something below" in app.text[0].value
    check(app.toggle(key="playground:blind").set_value(True).run())
    check(app.chat_input[0].set_value("How do I $tart?").run())
    assert "policy-a" not in texts(app)
    assert {"**Left**", "**Right**"} <= {one.value for one in app.markdown}
    assert "1. Call" not in texts(app)
    assert "Call \\:red[them]." in texts(app)
    assert "Pay \\$5 and \\$6." in texts(app)
    check(next(one for one in app.button if one.label == "Left is better").click().run())
    assert {"**policy-a · taught**", "**policy-b · taught**"} <= {one.value for one in app.markdown}
    assert "Kept as a preference: left is better" in texts(app)
    assert demo.counts().chats == chats + 2
    assert len(chosen_pairs(demo)) == pairs + 1
    said["policy-b"] = said["policy-a"]
    check(app.chat_input[0].set_value("And then?").run())
    check(next(one for one in app.button if one.label == "Alike").click().run())
    assert "Both sides said the same" in app.error[0].value
    check(app.button(key="playground:again:0").click().run())
    assert "Kept as a preference" in texts(app)
    check(app.selectbox(key="playground:second").set_value(None).run())
    check(app.chat_input[0].set_value("Alone?").run())
    check(next(one for one in app.button if one.label == "Keep for labelling").click().run())
    assert demo.counts().chats == chats + 4
    check(app.number_input(key="playground:tokens").set_value(5).run())


def test_a_step_is_fixed_and_the_branch_kept(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = demo.store.chat(demo.store.search_chats(limit=1)[0].id)
    asked: list[str] = []

    def write(_: Any, policy: str, query: str, count: int, **how: Any) -> list[tuple[str, bool]]:
        asked.append(how["begun"])
        return [(f" Other {k} {len(asked)}.", True) for k in range(count)]

    monkeypatch.setattr("rlhf_core.inference.client.ScoringClient.write", write)
    monkeypatch.setattr("rlhf_core.services.best_of.policies", lambda _: ["policy-a"])
    monkeypatch.setattr("rlhf_core.services.playing.voices", lambda _: [Voice("policy", "policy-a")])
    monkeypatch.setattr("rlhf_core.services.comparing.candidates", lambda _: [])
    app = check(open_page("playground.py", chat=chat.id, step="2"))
    assert "Instead of step 2" in texts(app)
    assert "chat" not in app.query_params
    check(app.number_input(key="fix:count").set_value(2).run())
    check(app.button(key="fix:propose").click().run())
    assert asked == [chat.response[: chat.response.index(chat.steps[1].step_content)].rstrip(" ")]
    assert "Other 1 1." in texts(app)
    check(app.button(key="fix:propose").click().run())
    assert "Other 1 2." in texts(app)
    check(app.button(key="fix:go:1").click().run())
    assert "The branch" in texts(app)
    check(app.button(key="fix:keep").click().run())
    assert "The branch is kept" in app.success[0].value
    kept = next(one for one in demo.store.search_chats(limit=1000) if one.source == "branch")
    assert demo.store.chat(kept.id).steps[1].step_content == "Other 1 1."
    check(app.button(key="fix:close").click().run())
    assert "Instead of step 2" not in texts(app)

    app = check(open_page("playground.py", chat=chat.id, step="2"))
    check(app.text_area(key="fix:own").set_value(chat.steps[1].step_content).run())
    check(app.button(key="fix:go:own").click().run())
    assert "This is the step that was there" in app.error[0].value
    check(app.selectbox(key="fix:policy").set_value(None).run())
    check(app.text_area(key="fix:own").set_value("Ask a person.").run())
    check(app.button(key="fix:go:own").click().run())
    check(app.button(key="fix:keep").click().run())
    assert sum(one.source == "branch" for one in demo.store.search_chats(limit=1000)) == 2
    for wrong in ({"chat": "nobody"}, {"chat": chat.id, "step": "99"}, {"chat": chat.id, "step": "x"}):
        app = check(open_page("playground.py", **wrong))
        assert app.error
        assert "Instead of" not in texts(app)


def test_checkpoints_are_attacked_and_the_suite_is_edited(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make(demo.workspace.checkpoints, kind="policy")
    monkeypatch.setattr("rlhf_core.inference.client.ScoringClient.write", lambda *_, **__: [("Banana :red[x], $5?", True)])
    app = check(open_page("playground.py"))
    check(app.segmented_control(key=keys.PLAY_VIEW).set_value("attack").run())
    assert "Nothing was attacked yet." in [one.value for one in app.text]
    check(app.multiselect(key="attack:whom").set_value([policy.id]).run())
    check(next(one for one in app.button if one.label == "Attack").click().run())
    assert policy.id in app.selectbox(key="attack:of").value
    assert "Banana \\:red[x], \\$5?" in texts(app)
    (outcome,) = attacking.outcomes(demo)
    assert 0 < outcome.withstood < 1
    cases = attacking.suite(demo)
    check(next(one for one in app.button if one.label == "Save the suite").click().run())
    assert attacking.suite(demo) == cases
    assert (demo.workspace.root / "attacks" / "suite.jsonl").is_file()
    check(next(one for one in app.button if one.label == "Take the one that comes along").click().run())
    assert not (demo.workspace.root / "attacks" / "suite.jsonl").is_file()


def test_a_workspace_that_cannot_be_opened_is_said_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RLHF_WORKSPACE", str(tmp_path / "file"))
    app = frame().run()
    assert not app.exception
    assert "is a file. Name a folder" in app.error[0].value


def test_a_damaged_store_is_said_on_the_page(root: Path) -> None:
    root.mkdir()
    (root / "workbench.sqlite3").write_bytes(b"garbage" * 1000)
    app = frame().run()
    assert not app.exception
    assert "damaged or no SQLite database" in app.error[0].value


# judgement one can trust ----------------------------------------------------------------------------------------------


def press(app: AppTest, label: str) -> AppTest:
    return check(next(one for one in app.button if one.label == label).click().run())


def test_the_pad_gets_pairs_with_sides_drawn_by_lot(judged: Workbench) -> None:
    data = pad(check(open_page("prefer.py")))
    assert data["task"] == "choose"
    first = data["items"][0]
    assert first["left"] in (first["chat"], first["other"])
    assert first["chat"] < first["other"]
    assert len(first["a"]["steps"]) >= 1
    assert first["a"]["whole"].startswith("<p>")
    again = pad(check(open_page("prefer.py")))
    assert [one["left"] for one in again["items"]] == [one["left"] for one in data["items"]]


def test_the_pad_gets_the_rubric_and_no_sign_of_gold(judged: Workbench) -> None:
    app = open_page("label.py")
    queue = next(one for one in judged.store.queues() if one.name == "Careful")
    judged.store.save_queue(replace(queue, screening=1, overlap=9))
    cai = judged.add_person("Cai")
    app = open_page("account.py")
    app.radio[0].set_value(cai.user_id).run() if app.radio else None
    app = check(open_page("label.py"))
    app.selectbox[0].set_value(queue.id).run()
    data = pad(check(app))
    assert data["rubric"]["aspects"][0]["anchors"] == {"1": "made up", "5": "checked"}
    assert "All of it holds" not in json.dumps(data)
    assert "gold" not in json.dumps(data)


def test_who_failed_the_screening_is_told_so(judged: Workbench) -> None:
    queue = next(one for one in judged.store.queues() if one.name == "Careful")
    person = Workbench.session(judged.people()[0])
    judged.store.save_queue(replace(queue, screening=1, screening_pass=1.0))
    with judged._database.transaction() as connection:
        connection.execute("UPDATE gold_results SET matched = 0, user_id = ? WHERE rowid = 1", (person.user_id,))
    app = check(open_page("label.py"))
    app.selectbox[0].set_value(queue.id).run()
    assert "You were right on 0% of them; it takes 100%" in texts(check(app))
    app = check(open_page("queues.py"))
    pick(app, "queues", queue.id)
    again = [one for one in check(app).button if one.label == "Let them try again"]
    assert len(again) == 2
    again[0].click().run()
    assert len([one for one in check(app).button if one.label == "Let them try again"]) == 1


@pytest.mark.slow
def test_agreement_in_all_its_views(judged: Workbench) -> None:
    assert "Take one first" in texts(check(open_page("agreement.py")))
    snapshots.take(judged)
    app = check(open_page("agreement.py"))
    assert app.metric[0].label == "Krippendorff's alpha (ordinal), steps"
    assert "[" in app.metric[0].value
    for what, by in (("answers", "queue"), ("aspects", "aspect"), ("preferences", "rater"), ("first errors", "source")):
        app.segmented_control[1].set_value(what)
        app.segmented_control[2].set_value(by).run()
        assert what in check(app).metric[0].label
    assert [one.label for one in app.metric][1:] == ["The very same step", "At most one step apart", "Mean distance, steps"]
    for view, words in (("Raters", "Who rates high"), ("Known answers", "known answers over time"), ("Hints", "changes minds")):
        app.segmented_control[0].set_value(view).run()
        assert words in texts(check(app))


def test_agreement_of_one_rater_says_why_there_is_none(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "steps": ["a"], "step_labels": [1]})
    snapshots.take(workbench)
    app = check(open_page("agreement.py"))
    assert app.metric[0].value == "not defined"
    assert "one person only has judged this" in texts(app)
    for view, words in (
        ("Known answers", "No known answer"),
        ("Hints", "No opinion of a checkpoint"),
        ("Raters", "Nothing to say"),
    ):
        app.segmented_control[0].set_value(view).run()
        assert words in texts(check(app))


def test_a_dispute_is_settled_on_the_page(judged: Workbench) -> None:
    app = check(open_page("disputes.py"))
    dispute = next(one for one in judged.store.disputes() if one.other_id is None and not one.decided)
    pick(app, "disputes", dispute.chat_id[:8])
    app.segmented_control[0].set_value(2)
    press(app, "Decide")
    assert "A decision needs a reason" in texts(app)
    next(one for one in app.text_area if one.label == "Why").set_value("It is too vague.")
    app.toggle[0].set_value(True)
    press(app, "Decide")
    (decision,) = judged.store.decisions(dispute.chat_id)
    assert (decision.value, decision.reason) == ("2", "It is too vague.")
    assert [one.explanation for one in judged.store.gold() if one.chat_id == dispute.chat_id] == ["It is too vague."]
    press(app, "Take it back")
    assert judged.store.decisions(dispute.chat_id) == []


def test_a_pairs_dispute_is_settled_on_the_page(judged: Workbench) -> None:
    app = check(open_page("disputes.py"))
    dispute = next(one for one in judged.store.disputes() if one.other_id)
    pick(app, "disputes", f"{dispute.chat_id[:8]}+{str(dispute.other_id)[:8]}")
    app.segmented_control[0].set_value("both_bad")
    next(one for one in app.text_area if one.label == "Why").set_value("Neither helps.")
    press(app, "Decide")
    assert [one.value for one in judged.store.decisions(dispute.chat_id, dispute.other_id)] == ["both_bad"]


def test_my_words_become_a_known_answer(judged: Workbench) -> None:
    mine = judged.store.for_user(Workbench.session(judged.people()[0]))
    chat = judged.store.search_chats(limit=9)[8]
    mine.rate(chat.id, None, 4, "stars")
    pair = chosen_pairs(judged)[2]
    value = {"other": pair[1], "verdict": "tie", "strength": None, "left": pair[0]}
    mine.apply([LabelOp(new_id(), "prefer", pair[0], None, value)])
    app = check(open_page("work.py"))
    pick(app, "work", chat.id)
    press(app, "Make it a known answer")
    pick(app, "pairs", f"{pair[0]}+{pair[1]}")
    app.button[[one.label for one in app.button].index("Make it a known answer")].click().run()
    check(app)
    assert {(one.chat_id, one.other_id) for one in judged.store.gold()} >= {(chat.id, None), pair}


def test_a_queue_with_gold_is_made_on_the_page(demo: Workbench) -> None:
    app = check(open_page("queues.py"))
    press(app, "New queue")
    next(one for one in app.text_input if one.label == "Name").set_value("Pairs")
    next(one for one in app.selectbox if one.label == "What people do").set_value("choose")
    next(one for one in app.selectbox if one.label == "What they are asked").set_value("aspects")
    next(one for one in app.slider if one.label.startswith("Known answers among")).set_value(25)
    next(one for one in app.number_input if one.label.startswith("Known answers before")).set_value(3)
    press(app, "Save")
    made = demo.store.queues()[2]
    assert (made.task, made.asks, made.gold_rate, made.screening, made.screening_pass) == ("choose", "aspects", 0.25, 3, 0.7)
    assert "None yet. Rate a chat" in texts(app)


def test_an_application_is_let_in_and_its_token_shown_once(workbench: Workbench) -> None:
    app = check(open_page("applications.py"))
    app.text_input[0].set_value("Assistant")
    check(next(one for one in app.button if one.label == "Let it in").click().run())
    token = app.code[0].value
    assert collecting.caller_of(workbench, token).application.name == "Assistant"
    check(next(one for one in app.button if one.label == "I have kept it").click().run())
    assert not app.code
    (one,) = collecting.applications(workbench)
    app.text_area(key=f"applications:text:{one.id}").set_value("May we?")
    check_refused = next(button for button in app.button if button.label == "Save").click().run()
    assert "a version of their own" in check_refused.error[0].value
    app.text_input(key=f"applications:version:{one.id}").set_value("2")
    check(next(button for button in app.button if button.label == "Save").click().run())
    assert collecting.applications(workbench)[0].consent_version == "2"
    check(app.button(key=f"applications:renew:{one.id}").click().run())
    assert app.code[0].value != token
    with pytest.raises(SignInRequired):
        collecting.caller_of(workbench, token)
    check(app.button(key=f"applications:revoke:{one.id}").click().run())
    with pytest.raises(SignInRequired):
        collecting.caller_of(workbench, app.code[0].value)
    collecting.add_chat(workbench, Caller(one), "c", {"query": "q of jo@example.org", "response": "r"}, "ana")
    collecting.erase(workbench, Caller(one), "ana")
    app = check(open_page("applications.py"))
    assert [frame.value["what"].tolist() for frame in app.dataframe] == [["1 e-mail"], ["1 chats"]]
    app = check(open_page("activity.py"))
    assert app.dataframe[0].value["did"].tolist()[0] == "erased a person"
    assert "let an application in" in app.dataframe[0].value["did"].tolist()
    app.text_input[0].set_value("nothing like it").run()
    assert "Nobody did such a thing." in app.info[0].value
