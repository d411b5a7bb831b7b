from pathlib import Path

import pytest

from rlhf_core.ground import settings
from rlhf_core.ground.engines import Capacity, EngineSettings, Node, Resources, engine_named, engines
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.runs import Run, train_command
from rlhf_core.ground.settings import PROJECT_ROOT


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RLHF_RAY_ADDRESS", "RLHF_RAY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "secrets.toml"
    monkeypatch.setattr(settings, "SECRETS_FILES", (path,))
    return path


def test_none_is_set(secrets: Path) -> None:
    assert engines() == []
    with pytest.raises(NotFound, match=r"no engine 'cluster' in the settings \(there: local\)"):
        engine_named("cluster")


def test_from_the_file_and_the_environment(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.write_text(
        '[engines.cluster]\nkind = "ray"\naddress = "https://head.example.org/ray/"\ntoken = "t"\nworkspace = "/mnt/w"\n'
        'grace_s = 120\nsetup = ["module load cuda"]\n[engines.big]\nkind = "slurm"\nslurm = {partition = "gpu"}\n'
    )
    monkeypatch.setenv("RLHF_RAY_ADDRESS", "http://127.0.0.1:8265")
    assert engines() == [
        EngineSettings("ray", "ray", "http://127.0.0.1:8265"),
        EngineSettings("cluster", "ray", "https://head.example.org/ray", "t", "/mnt/w", grace_s=120, setup=("module load cuda",)),
        EngineSettings("big", "slurm", slurm={"partition": "gpu"}),
    ]
    assert "'t'" not in repr(engine_named("cluster"))


def test_the_example_is_right(secrets: Path) -> None:
    text = (PROJECT_ROOT / ".streamlit" / "secrets.toml.example").read_text()
    begin = text.index("# [engines.cluster]")
    lines = [line.removeprefix("# ") for line in text[begin:].split("\n\n")[0].splitlines()]
    secrets.write_text("\n".join(lines))
    assert {one.kind for one in engines()} == {"ray", "slurm"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('cluster = "x"', "write it as a section"),
        ("[engines.local]\nkind = 'ray'", "local is this machine"),
        ("[engines.c]\nkind = 'k8s'", "kind under .* is 'k8s'; expected ray or slurm"),
        ("[engines.c]\nkind = 'ray'", "address under"),
        ("[engines.c]\nkind = 'ray'\naddress = 'http://example.org:8265'", "without https, secrets would travel in the open"),
        ("[engines.c]\nkind = 'slurm'\npartition = 'gpu'", "no setting 'partition'"),
        ("[engines.c]\nkind = 'slurm'\ngrace_s = true", "grace_s .* is True; expected int"),
        ("[engines.c]\nkind = 'slurm'\ngrace_s = 0", "have to be above 0"),
        ("[engines.c]\nkind = 'slurm'\nworkspace = 'here'", "expected an absolute path"),
        ("[engines.c]\nkind = 'slurm'\nexecutor = 'pbs'", "expected slurm, or local"),
    ],
)
def test_wrong_settings_are_named(secrets: Path, text: str, said: str) -> None:
    secrets.write_text(text if text.startswith("[") else f"[engines]\n{text}")
    with pytest.raises(InvalidInput, match=said):
        engines()


def test_what_is_asked_for() -> None:
    assert Resources.parse({"processes": 4}).settled(8, "auto").gpus == 4
    assert Resources.parse({"processes": 4}).settled(8, "cpu").gpus == 0
    assert Resources.parse({}).settled(0, "auto") == Resources.parse({"gpus": 0, "cpus": 2})
    assert Resources.parse({"gpus": 3, "cpus": 1}).settled(0, "auto") == Resources.parse({"gpus": 3, "cpus": 1})
    with pytest.raises(InvalidInput, match=r"processes: .*greater than or equal to 1 \(got 0\)"):
        Resources.parse({"processes": 0})


def test_what_could_never_be() -> None:
    small, large = Node("a", 1, 1, 8, 8, 16_000, 16_000), Node("b", 4, 0, 64, 64, 256_000, 256_000)
    both = Capacity([small, large], 0, 0)
    assert both.lacks(Resources.parse({"gpus": 4, "cpus": 64})) is None  # taken now, and free some day
    assert (
        both.lacks(Resources.parse({"gpus": 5}))
        == "no node of it has 5 GPUs (the largest: 4 GPUs, 64 processors, 250.0 GiB of memory)"
    )
    assert Capacity([], 0, 0).lacks(Resources.parse({})) == "it has no node at all"
    assert both.total("free_gpus") == 1


def run(**more: object) -> Run:
    values = dict.fromkeys(Run.__dataclass_fields__) | {
        "id": "r1",
        "kind": "reward",
        "config": {},
        "snapshot_id": "s",
        "resources": {},
    }
    return Run(**(values | more))  # type: ignore[arg-type]


def test_the_command_of_one_process_and_of_several() -> None:
    one = train_command(run(), Path("/w"), "py")
    assert one == ["py", "-m", "rlhf_core", "train", "reward", "--workspace", "/w", "--snapshot", "s",
                   "--config", "/w/runs/r1/config.json", "--run-id", "r1"]  # fmt: skip
    two = train_command(run(resources={"processes": 2, "sharding": "fsdp"}), Path("/w"), "py")
    assert two[-len(one) + 2 :] == one[2:]
    assert two[: -len(one) + 2] == ["py", "-m", "accelerate.commands.launch", "--config_file", "deploy/accelerate/fsdp.yaml",
                                    "--num_processes", "2", "--main_process_port", "0", "--module"]  # fmt: skip
    assert (PROJECT_ROOT / "deploy/accelerate/fsdp.yaml").is_file()
