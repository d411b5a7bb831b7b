"""The API over a fresh workspace, as an application and its people call it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from rlhf_core.api.routes import create
from rlhf_core.services import collecting
from rlhf_core.services.workbench import Workbench

TRANSCRIPT = (
    'Let me see.\n{"type": "step_start"}\nCall the career center.\n{"type": "step_end"}\n'
    '{"type": "step_start"}\nAsk for a voucher.\n{"type": "step_end"}\n'
)
Call = Callable[..., Any]


@pytest.fixture
def site(workbench: Workbench) -> Iterator[TestClient]:
    api = create(lambda: workbench, workbench.workspace.root / "logs")
    with TestClient(Starlette(routes=[Mount("/api", app=api)]), base_url="http://test") as client:
        yield client


def calls(site: TestClient, token: str) -> Call:
    """``call(method, path, status, **json)``: the answer, whose status is as it should be."""

    def call(method: str, path: str, status: int, **sent: Any) -> Any:
        given: dict[str, Any] = {"params": sent} if method in ("GET", "DELETE") else {"content": json.dumps(sent)}
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        answer = site.request(method, f"/api{path}", headers=headers, **given)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
        return answer.json()

    return call


@pytest.fixture
def assistant(workbench: Workbench, site: TestClient) -> Call:
    """Calls with the token of an application named Assistant."""
    return calls(site, collecting.add_application(workbench, "Assistant")[1])


@pytest.fixture
def ana_at(assistant: Call, site: TestClient) -> Call:
    """Calls with a ticket of its person ana."""
    return calls(site, assistant("POST", "/tickets", 201, userId="ana")["ticket"])


@pytest.fixture
def chat(assistant: Call) -> dict[str, Any]:
    """One of ana's."""
    sent: dict[str, Any] = assistant("POST", "/chats", 201, id="c1", query="How do I start?", transcript=TRANSCRIPT, userId="ana")
    return sent
