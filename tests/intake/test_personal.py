"""What says who somebody is goes; what looks like it stays."""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rlhf_core.ground.settings import PROJECT_ROOT
from rlhf_core.intake import personal
from rlhf_core.intake.personal import record_without_personal, told, without_personal


@pytest.fixture(autouse=True)
def without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("it asks the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Mail jane.doe+x@example.co.uk, or a@b.org.", "Mail [e-mail], or [e-mail]."),
        ("Call 617-555-0123 or (413) 555 0199.", "Call [phone] or [phone]."),
        ("Ruf +49 30 901820 an.", "Ruf [phone] an."),
        ("My SSN is 536-90-4399, my card 4111 1111 1111 1111.", "My SSN is [social security number], my card [card number]."),
        ("IBAN DE89370400440532013000 at 192.168.1.77", "IBAN [account number] at [address]"),
        ("\u00e4\U0001f600 a@b.org \U0001f600", "\u00e4\U0001f600 [e-mail] \U0001f600"),
    ],
)
def test_what_goes(text: str, clean: str) -> None:
    found, removed = without_personal(text)
    assert found == clean
    assert removed.total() == clean.count("[")
    assert without_personal(clean) == (clean, {})


@pytest.mark.parametrize("text", [
    "It costs $4,000 to $12,500 and takes 12-16 weeks (about 480 hours).", "Pi is 3.14159265358, and 2,147,483,647 is large.",
    "Room 101, 500 Main Street, 02139 Cambridge, since 2019-10-12.", "The exam of 2024-2025 has 70 questions: mass.gov/masshire.",
    "Solve x@y = 5 for y.", "", "1. Call\n2. Ask\n3. Go",
])  # fmt: skip
def test_what_stays(text: str) -> None:
    assert without_personal(text) == (text, {})


def test_in_words() -> None:
    assert told({"PHONE_NUMBER": 1, "EMAIL_ADDRESS": 1200}) == "1,200 e-mail, 1 phone"
    assert told({}) == "nothing"


def test_of_a_record_only_what_people_wrote_is_cleaned() -> None:
    removed: Counter[str] = Counter({"EMAIL_ADDRESS": 1})
    record = {
        "id": "617-555-0123", "query": "I am a@b.org",
        "steps": ["Call 617-555-0123.", {"content": "c@d.org", "rater": "e@f.org"}],
        "feedback": [{"step": 1, "score": 4, "comment": "Not 617-555-0123", "rater": "e@f.org"}], "source": "g@h.org", "score": 3,
    }  # fmt: skip
    assert record_without_personal(record, removed) == record | {
        "query": "I am [e-mail]", "steps": ["Call [phone].", {"content": "[e-mail]", "rater": "e@f.org"}],
        "feedback": [{"step": 1, "score": 4, "comment": "Not [phone]", "rater": "e@f.org"}],
    }  # fmt: skip
    assert removed == {"EMAIL_ADDRESS": 3, "PHONE_NUMBER": 2}


def test_what_is_hidden_from_one_thread_others_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is asked at once loads what takes addresses out while another thread imports scipy, which looks for torch."""
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    before = list(sys.meta_path)
    with personal._hidden("colorsys"):
        with pytest.raises(ModuleNotFoundError, match="colorsys is not needed here"):
            importlib.import_module("colorsys")
        assert "colorsys" not in sys.modules  # and not None there, which others would take for the module
        with ThreadPoolExecutor(1) as other:
            assert other.submit(importlib.import_module, "colorsys").result().rgb_to_hsv
    assert sys.meta_path == before


def test_loaded_beside_scipy_and_without_torch() -> None:
    script = """
import sys, threading
from rlhf_core.intake import personal
failed = []
def other():
    try:
        import scipy.stats
    except Exception as error:
        failed.append(error)
threads = [threading.Thread(target=other), *(threading.Thread(target=personal.warm) for _ in range(3))]
for one in threads: one.start()
for one in threads: one.join()
assert not failed, failed
assert personal.without_personal("ana@example.org")[0] == "[e-mail]"
assert not {"torch", "transformers"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
