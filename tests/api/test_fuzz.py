"""Requests made up from the OpenAPI document, good ones and bad ones: none breaks the server, and every answer is documented."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from rlhf_core.api import routes
from rlhf_core.services import collecting
from rlhf_core.services.workbench import Workbench
from tests.api.conftest import TRANSCRIPT, calls

load_all_checks()
# not positive_data_acceptance: that an answer is either a transcript or a response is said in words, not by the document
CHECKS = [
    not_a_server_error, checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance,
    checks.negative_data_rejection, checks.ignored_auth, checks.unsupported_method,
]  # fmt: skip
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


def mend(body: dict[str, Any], chat_id: str) -> None:
    """Bring what the document allows nearer to what the words beside it ask for, so that more requests go through."""
    body.pop("transcript" if len(body.get("id", "")) % 2 else "response", None)
    body.pop("steps" if "transcript" in body else "", None)
    body.pop("feedbackScore" if body.get("feedbackType") else "", None)
    for part in (body, body.get("details", {})):
        if "chatId" in part:
            part.pop("stepId", None)
            part["chatId"] = chat_id
    for name in ("timestamp", "createdAt"):
        if name in body:
            body[name] = "2026-11-20T10:00:00Z"
    if "consent" in body:
        body["version"] = "1"


@pytest.mark.slow
def test_made_up_requests(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.setattr(routes, "STRANGERS_PER_MINUTE", 10_000_000)
    app = Starlette(routes=[Mount("/api", app=routes.create(lambda: workbench))])
    _, token = collecting.add_application(workbench, "Assistant", per_minute=10_000_000)
    chat = calls(TestClient(app), token)("POST", "/chats", 201, id="c", query="q", transcript=TRANSCRIPT)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    schema.config.update(headers={"Authorization": f"Bearer {token}"})
    answered: Counter[tuple[str, int]] = Counter()

    def ask(case: Any) -> None:
        if mode is schemathesis.GenerationMode.POSITIVE and isinstance(case.body, dict):
            mend(case.body, chat["id"])
        answer = case.call()
        answered[(f"{case.method} {case.path}", answer.status_code)] += 1
        refused = answer.status_code == 413  # the check of bad data does not know it as a refusal
        case.validate_response(answer, checks=[one for one in CHECKS if not (refused and one is checks.negative_data_rejection)])

    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in MODES:
            made = operation.as_strategy(generation_mode=mode)
            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request without parts
                settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])(
                    given(case=made)(ask)
                )()
    with capsys.disabled():
        for (route, status), count in sorted(answered.items()):
            print(f"{route:<40} {status} {count:>5}")
    codes = Counter[int]()
    for (_, status), count in answered.items():
        codes[status] += count
    assert codes.keys() <= {200, 201, 400, 401, 403, 404, 405, 409, 413, 422, 429}
    assert min(codes[200], codes[201], codes[422]) > 50
    assert {"POST /chats", "POST /assistant/feedback", "POST /metrics/chat-feedback", "POST /tickets", "PUT /me/consent"} <= {
        route for (route, status) in answered if status in (200, 201)
    }
