import argparse

import pytest

from rlhf_core.__main__ import _parser
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import InvalidInput


def test_the_missions_defaults() -> None:
    config = RewardConfig()
    assert (config.reward_base_model, config.batch_size, config.epochs, config.learning_rate, config.max_length) == (
        "distilroberta-base", 8, 3, 2e-5, 512,
    )  # fmt: skip
    assert config.test_fraction == 0.2


def test_every_wrong_option_is_named_with_its_value() -> None:
    with pytest.raises(InvalidInput) as caught:
        RewardConfig.parse({"epochs": 0, "learning_rate": "fast", "colour": 1})
    for part in ("epochs", "got 0", "learning_rate", "fast", "colour"):
        assert part in str(caught.value)


def test_splits_must_leave_something_to_train_on() -> None:
    with pytest.raises(InvalidInput, match="leave less than 5%"):
        RewardConfig.parse({"test_fraction": 0.5, "validation_fraction": 0.5})


def test_the_command_line_has_every_option_and_round_trips() -> None:
    config = RewardConfig(epochs=7, max_steps=3, learning_rate=1e-4, learn_from="steps", max_eval_examples=None)
    parsed = vars(_parser().parse_args(["train", "reward", "--snapshot", "x", *config.arguments()]))
    assert isinstance(parsed, dict)
    given = {name: None if value == "none" else value for name, value in parsed.items() if name in RewardConfig.model_fields}
    assert RewardConfig.parse(given) == config


def test_help_prints() -> None:
    assert isinstance(_parser(), argparse.ArgumentParser)
    assert "step_labels" in _subparser_help("import")


def _subparser_help(name: str) -> str:
    actions = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return actions[0].choices[name].format_help()
