"""Report cards on their page, from checkpoints that hold one, hold none, or hold a broken one."""

from pathlib import Path

import numpy as np
import pytest

from rlhf_core.checkpoints.registry import Checkpoint, seal
from rlhf_core.ground.cards import CARD_FILE, ReportCard
from rlhf_core.ground.errors import CorruptArtifact, ModelRefused, NotFound
from rlhf_core.ground.files import building, write_json
from rlhf_core.learn.card import Held, write_card
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
