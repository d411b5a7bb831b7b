import argparse

import pytest

from rlhf_core.__main__ import _parser
from rlhf_core.ground.configs import CONFIGS, PRESETS, Preset, RewardConfig, less_memory, options_in_markdown
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.runs import RunKind
from rlhf_core.ground.settings import PROJECT_ROOT


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
    parsed = vars(_parser()[0].parse_args(["train", "reward", "--snapshot", "x", *config.arguments()]))
    assert isinstance(parsed, dict)
    given = {name: None if value == "none" else value for name, value in parsed.items() if name in RewardConfig.model_fields}
    assert RewardConfig.parse(given) == config


def test_help_prints() -> None:
    assert isinstance(_parser()[0], argparse.ArgumentParser)
    assert "step_labels" in _subparser_help("import")


def _subparser_help(name: str) -> str:
    actions = [action for action in _parser()[0]._actions if isinstance(action, argparse._SubParsersAction)]
    return actions[0].choices[name].format_help()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in PRESETS for name in PRESETS[kind]])
def test_every_preset_is_a_config(kind: RunKind, name: Preset) -> None:
    begin = {} if kind == "reward" else {"base_model": "policy-1"}
    preset = PRESETS[kind][name]
    config = CONFIGS[kind].parse(begin | preset)
    assert {one: getattr(config, one) for one in preset} == preset
    default = CONFIGS[kind].parse(begin)
    assert all(value != getattr(default, one) for one, value in preset.items()), "what is the default needs no saying"


def test_what_needs_less_memory() -> None:
    first = less_memory("reward", {})
    assert first == {"micro_batch_tokens": 256, "gradient_checkpointing": True}
    assert less_memory("reward", first) == {"micro_batch_tokens": 64}
    assert less_memory("reward", {"micro_batch_tokens": 64, "gradient_checkpointing": True}) is None
    assert less_memory("sft", {"batch_size": 8}) == {"batch_size": 4, "gradient_checkpointing": True}
    assert less_memory("ppo", {"micro_batch_tokens": 4096}) == {"micro_batch_tokens": 1024, "gradient_checkpointing": True}
    for kind, config in (("sft", {"base_model": "p"}), ("ppo", {"base_model": "p"})):
        CONFIGS[kind].parse(config | (less_memory(kind, config) or {}))


def test_the_documentation_lists_every_option_as_it_is() -> None:
    written = (PROJECT_ROOT / "docs" / "options.md").read_text("utf-8")
    assert written == options_in_markdown(), "write it anew: python -m rlhf_core reference options > docs/options.md"
    for line in (
        "| batch_size | whole number at least 1, at most 1,024 | 8 |", "| method | finetune, lora, head | finetune |",
        "| base_model | text | required |", "| leniency | true, false | True |", "| clip | number above 0, at most 10 | 0.2 |",
    ):  # fmt: skip
        assert line in written, line
