"""What is fuzzed: each target takes bytes, as they might come from elsewhere, and lets nothing out but errors meant for people.

``run.py`` feeds them by coverage (atheris); ``test_corpus.py`` replays what was found and kept in ``corpus/``.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from unittest import mock

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from rlhf_core.analytics import query
from rlhf_core.analytics.snapshot import open_snapshot
from rlhf_core.api.routes import create
from rlhf_core.checkpoints.registry import open_checkpoint
from rlhf_core.ground import depots, engines, settings
from rlhf_core.ground.cards import CARD_FILE, read_card
from rlhf_core.ground.configs import CONFIGS, parse_sources
from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.files import read_json
from rlhf_core.ground.settings import Workspace
from rlhf_core.intake.formats import SUFFIXES, Preset
from rlhf_core.intake.parsing import parse_file
from rlhf_core.intake.splitting import split_answer, split_sentences
from rlhf_core.services import backing_up, collecting, run_folders
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui.render import safe_html
from rlhf_core.ui.texts import markdown_of, plain

HERE = Path(__file__).parent
PRESETS = get_args(Preset)
KINDS = list(CONFIGS)
EDITS = ("POST", "PUT", "GET", "DELETE", "PATCH")
PATHS = ("/chats", "/metrics/chat-feedback", "/score", "/tickets", "/me/consent", "/me", "/assignment", "/metrics")


def scratch() -> Path:
    """A folder of this process, emptied by nobody: what targets write there is written over."""
    global _scratch
    if _scratch is None:
        _scratch = tempfile.TemporaryDirectory(prefix="fuzz-")
    return Path(_scratch.name)


_scratch: tempfile.TemporaryDirectory[str] | None = None


def told(error: Exception) -> None:
    """An error that a person meets says something."""
    if not str(error).strip():
        raise AssertionError(f"{type(error).__name__} without a word")


def imports(data: bytes) -> None:
    """A file of chats: the first byte says its suffix, the second one the preset."""
    if len(data) < 2:
        return
    name = f"file{SUFFIXES[data[0] % len(SUFFIXES)]}"
    preset: Any = PRESETS[data[1] % len(PRESETS)]
    try:
        with parse_file(io.BytesIO(data[2:]), name, preset=preset, remove_personal=False) as parsed:
            for batch in parsed.batches():
                assert len(batch.chats) <= 501
                for row in batch.steps:
                    assert isinstance(row, tuple)
    except RlhfError as error:
        told(error)


def texts(data: bytes) -> None:
    """What people and models write, on its way to a page."""
    text = data.decode("utf-8", "replace")
    assert "![" not in markdown_of(text)
    html = safe_html(text)
    assert not re.search(r"<(?:script|img|iframe|style|form|object|embed|link|svg|a)\b", html, re.IGNORECASE), html
    assert not re.search(r"<[^>]*\son\w+\s*=", html, re.IGNORECASE), html
    plain(text)
    for split in (split_answer, split_sentences):
        found = split(text)
        assert all(step.strip() for step in found.steps)


def configs(data: bytes) -> None:
    """Options of a run, as JSON: the first byte says of which kind."""
    if not data:
        return
    kind = KINDS[data[0] % len(KINDS)]
    try:
        values = json.loads(data[1:])
    except (ValueError, RecursionError):
        values = {"reward": data[1:].decode("utf-8", "replace")}
    if not isinstance(values, dict):
        return
    values = {str(name): value for name, value in values.items()}
    try:
        config = CONFIGS[kind].parse(values)
        again = CONFIGS[kind].parse(json.loads(json.dumps(config.model_dump())))
        assert again == config
        if isinstance(reward := getattr(config, "reward", None), str):
            parse_sources(reward)
    except RlhfError as error:
        told(error)


def secrets(data: bytes) -> None:
    """The settings file, and the environment's address of a store."""
    path = scratch() / "secrets.toml"
    path.write_bytes(data)
    with mock.patch.object(settings, "SECRETS_FILES", (path,)), mock.patch.dict("os.environ", {"RLHF_STORE": "supabase"}):
        readers: list[Callable[[], object]] = [settings.team_settings, settings.endpoints, engines.engines, depots.depot_settings]
        for reader in readers:
            try:
                reader()
            except RlhfError as error:
                told(error)


def manifests(data: bytes) -> None:
    """JSON beside things that came from elsewhere: a snapshot's, a checkpoint's, a card, an exported run's row, a backup's."""
    root = scratch() / "manifests"
    for name in ("one/manifest.json", f"one/{CARD_FILE}", "one/run.json", "one/backup.json"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    workbench = _opened()
    attempts: list[Callable[[], object]] = [
        lambda: open_snapshot(root, "one"), lambda: open_snapshot(root, "one", verify=True), lambda: open_checkpoint(root, "one"),
        lambda: open_checkpoint(root, "one", verify=True).verify(), lambda: read_card(root / "one"),
        lambda: run_folders.import_run(workbench, root / "one"), lambda: read_json(root / "one" / "run.json", "it"),
    ]  # fmt: skip
    target = scratch() / "restored"
    attempts.append(lambda: backing_up.restore(root / "one", target)[0].close())
    for attempt in attempts:
        try:
            attempt()
        except RlhfError as error:
            told(error)


def questions(data: bytes) -> None:
    """The header of a named question."""
    path = scratch() / "question.sql"
    path.write_bytes(data.replace(b"\r", b"\n"))
    try:
        question = query.read_question(path)
        assert question.name == "question"
    except (RlhfError, UnicodeDecodeError) as error:
        told(error)


def api(data: bytes) -> None:
    """Requests of an application: the first two bytes say what is asked, the rest is the body."""
    if len(data) < 2:
        return
    client, token = _site()
    path, method = PATHS[data[0] % len(PATHS)], EDITS[data[1] % len(EDITS)]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = client.request(method, f"/api{path}", content=data[2:], headers=headers)
    assert answer.status_code < 500, (method, path, answer.status_code, answer.text)
    if answer.status_code >= 400 and answer.status_code != 405:
        assert answer.json()["status"] == answer.status_code


def tickets(data: bytes) -> None:
    """What stands in the header that says who asks."""
    client, _ = _site()
    given = data.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    answer = client.get("/api/me", headers={b"Authorization": b"Bearer rlhfv." + given})
    assert answer.status_code in (400, 401, 403, 429), (answer.status_code, answer.text)


def _opened() -> Workbench:
    global _workbench
    if _workbench is None:
        _workbench = Workbench(Workspace.resolve(scratch() / "workspace"))
    return _workbench


_workbench: Workbench | None = None


def _site() -> tuple[TestClient, str]:
    global _client
    if _client is None:
        workbench = _opened()
        _, token = collecting.add_application(workbench, "Fuzz", per_minute=10**7)
        app = Starlette(routes=[Mount("/api", app=create(lambda: workbench, scratch() / "logs"))])
        _client = (TestClient(app, raise_server_exceptions=False), token)
    return _client


_client: tuple[TestClient, str] | None = None
TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one for one in (imports, texts, configs, secrets, manifests, questions, api, tickets)
}
