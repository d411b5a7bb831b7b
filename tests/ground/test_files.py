import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound, StorageFull, disk_errors
from rlhf_core.ground.files import building, publish, read_json, sweep_leftovers, write_json
from rlhf_core.ground.processes import ProcessIdentity
from rlhf_core.ground.settings import WORKSPACE_VARIABLE, Workspace


def test_building_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), building(tmp_path) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_publish_keeps_the_first_of_two(tmp_path: Path) -> None:
    for text, new in (("first", True), ("second", False)):
        with building(tmp_path) as folder:
            (folder / "a").write_text(text)
            assert publish(folder, tmp_path / "done") is new
    assert (tmp_path / "done" / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["done"]


def test_sweep_removes_what_a_killed_process_left_and_spares_the_living(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from rlhf_core.ground.files import building\n"
        "with building(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    with building(tmp_path) as mine:
        assert sweep_leftovers(tmp_path) == [left]
        assert mine.is_dir()


def test_json_is_whole_or_a_clear_error(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    assert read_json(tmp_path / "a.json", "it") == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]
    (tmp_path / "a.json").write_text('{"x": ')
    with pytest.raises(CorruptArtifact, match="cannot be read as JSON"):
        read_json(tmp_path / "a.json", "it")
    with pytest.raises(NotFound, match=r"b\.json"):
        read_json(tmp_path / "b.json", "it")


def test_a_reused_pid_is_somebody_else() -> None:
    me = ProcessIdentity.of_this_process()
    assert me.is_alive()
    assert not ProcessIdentity(me.pid, me.create_time - 100).is_alive()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="Free some space"), disk_errors("writing", tmp_path):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")


def test_workspace_is_one_folder_from_argument_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path / "env"))
    assert Workspace.resolve().root == tmp_path / "env"
    assert Workspace.resolve(tmp_path / "given").root == tmp_path / "given"
    assert (tmp_path / "given" / "snapshots").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="is a file"):
        Workspace.resolve(tmp_path / "file")
