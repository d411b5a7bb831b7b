"""Report cards on their page, from checkpoints that hold one, hold none, or hold a broken one."""

from pathlib import Path

import numpy as np
import pytest

from rlhf_core.checkpoints.registry import Checkpoint, seal
from rlhf_core.ground.cards import (
    CARD_FILE,
    AggregateFigure,
    Curve,
    CurvePoint,
    Group,
    KindGain,
    ReportCard,
    StepReadings,
    Value,
)
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import CorruptArtifact, ModelRefused, NotFound
from rlhf_core.ground.files import building, write_json
from rlhf_core.learn.card import Held, write_card
from rlhf_core.learn.model_card import model_card
from rlhf_core.services import modelling
from rlhf_core.services.workbench import Workbench
from tests.conftest import command
from tests.learn.test_card import card_of, reads
from tests.pages.test_pages import check, open_page, pick, texts


def checkpoint(folder: Path, card: ReportCard | dict[str, int] | None, *, complete: bool = True) -> Checkpoint:
    with building(folder) as scratch:
        (scratch / "model.safetensors").write_bytes(b"weights")
        if card is not None:
            write_json(scratch / CARD_FILE, card.model_dump() if isinstance(card, ReportCard) else card)
            (scratch / "README.md").write_text("# Reward model\n")
        return seal(
            scratch, folder, kind="reward", run_id="r", snapshot_id="s", parent="minilm-l6", complete=complete, config={},
            metrics={}, scoring={}, libraries={},
        )  # fmt: skip


@pytest.fixture(scope="module")
def trusted() -> ReportCard:
    return card_of(reads)


def test_a_trusted_model(workbench: Workbench, trusted: ReportCard) -> None:
    one = checkpoint(workbench.workspace.checkpoints, trusted)
    app = check(open_page("models.py"))
    words = texts(app)
    assert "Its rewards of answers can be acted on." in words
    assert one.id in words
    assert "AUC, liked against disliked" in app.table[0].value.index
    assert app.table[0].value.loc["length alone", "value (95% interval)"].startswith("0.")
    assert "#### Probes" in words
    modelling.gate(workbench, one.id, "answers", "PPO")


def test_a_refused_one_says_what_to_do(workbench: Workbench, root: Path) -> None:
    one = checkpoint(workbench.workspace.checkpoints, card_of(lambda _, text: float(len(text))))
    words = texts(check(open_page("models.py", model=one.id)))
    assert ":red[**Refused.**]" in words
    assert "Rate more answers of different queries" in words
    assert "Import or write answers like these and rate them low" in words
    with pytest.raises(ModelRefused):
        modelling.gate(workbench, one.id, "answers", "PPO")
    assert command("card", one.id, root=root, check=False).returncode == 2


def test_without_a_card_and_with_a_broken_one(workbench: Workbench, trusted: ReportCard) -> None:
    folder = workbench.workspace.checkpoints
    bare, stopped, broken = checkpoint(folder, None), checkpoint(folder, None, complete=False), checkpoint(folder, {"format": 9})
    app = check(open_page("models.py"))
    for one, said in (
        (bare, "before there were report cards"),
        (stopped, "stopped before it was measured"),
        (broken, "Train again"),
    ):
        assert said in texts(pick(app, "models", one.id))
    with pytest.raises(ModelRefused, match="no report card"):
        modelling.gate(workbench, bare.id, "answers", "PPO")
    with pytest.raises(CorruptArtifact):
        modelling.gate(workbench, broken.id, "answers", "PPO")
    with pytest.raises(NotFound):
        modelling.gate(workbench, "reward-nothing", "answers", "PPO")
    assert "There is no checkpoint" in texts(check(open_page("models.py", model="nothing")))


def test_a_card_that_was_changed_lets_nothing_through(workbench: Workbench, trusted: ReportCard) -> None:
    refused = checkpoint(workbench.workspace.checkpoints, card_of(lambda _, __: 3.0))
    write_json(refused.folder / CARD_FILE, trusted.model_dump())
    with pytest.raises(CorruptArtifact, match="hash differs"):
        modelling.gate(workbench, refused.id, "answers", "PPO")


def test_nothing_held_out(workbench: Workbench) -> None:
    nothing = Held([], np.array([]))
    one = checkpoint(workbench.workspace.checkpoints, write_card([], nothing, nothing, lambda _: []))
    assert "Nothing was held out" in texts(check(open_page("models.py", model=one.id)))


def test_what_more_would_bring_aspects_and_ways_to_read(workbench: Workbench, trusted: ReportCard) -> None:
    value = Value(value=0.8, low=0.7, high=0.9)
    gain = Value(value=0.021, low=0.004, high=0.05)
    points = [CurvePoint(judgements=100, figure=value), CurvePoint(judgements=200, figure=value)]
    kinds = [KindGain(kind="steps", gain=gain), KindGain(kind="pairs", gain=Value(value=-0.001))]
    card = trusted.model_copy(update={
        "folds": 5, "curve": Curve(of="steps", judgements=200, more=200, points=points, gain=gain, kinds=kinds),
        "aspects": [Group(by="aspect", name="clear", count=31, auc=0.77, spearman=0.4, error=0.9)],
        "aggregates": [AggregateFigure(how="min", answers=25, auc=0.81, spearman=None)],
        "step_readings": StepReadings(
            steps=90, prefixes=value, one_pass=value, prefixes_ahead=gain, rank_correlation=0.95, tokens_ratio=3.25,
            trained_on="prefixes", better="prefixes",
        ),
    })  # fmt: skip
    checkpoint(workbench.workspace.checkpoints, card)
    app = check(open_page("models.py"))
    words = texts(app)
    assert "measured on every query by 5 readouts" in words
    assert "200 more judgements like these: about +2.1 points (+0.4 to +5.0) in AUC on steps." in words.replace("\\", "")
    assert "steps +2.1 points (+0.4 to +5.0); pairs -0.1 points" in words.replace("\\", "")
    tables = {name: row for table in app.table for name, row in table.value.to_dict("index").items()}
    assert tables["clear"]["value (95% interval)"] == "0.77"
    assert tables["min"]["beside it"] == "rank correlation –, 25 answers"
    assert tables["the first is ahead by"]["beside it"] == "better: each with what stands before it"
    written = model_card(card, RewardConfig(), "s")
    for said in ("## Aspects", "## What more would bring", "## From steps to answers", "3.2 times the tokens", "5 readouts"):
        assert said in written
