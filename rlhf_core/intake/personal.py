"""Take what says who somebody is out of texts: e-mail addresses, phone numbers and the like, by the recognisers of presidio.

Patterns and checksums alone, no language model: it works without a network, and names stay. It errs towards leaving too much, so
consent and pseudonyms stand beside it.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any

KINDS: dict[str, str] = {  # what presidio calls it, and what is written in its place
    "EMAIL_ADDRESS": "[e-mail]",
    "PHONE_NUMBER": "[phone]",
    "US_SSN": "[social security number]",
    "CREDIT_CARD": "[card number]",
    "IBAN_CODE": "[account number]",
    "IP_ADDRESS": "[address]",
}
LEAST_SCORE = 0.4
WRITTEN = frozenset((  # fields
    "query", "response", "response_a", "response_b", "steps", "steps_a", "steps_b", "content", "step_content", "text", "comment",
))  # fmt: skip
_MAKING = threading.Lock()
REGIONS = ("US", "CA", "GB", "DE")  # whose ways to write phone numbers are known; others with their + and code


def without_personal(text: str) -> tuple[str, Counter[str]]:
    """A text without them, and how many of which kind were taken out."""
    found = []
    for recogniser in _recognisers():
        for one in recogniser.analyze(text, recogniser.supported_entities, None) or ():
            within = one.start > 0 and text[one.start - 1] in "0123456789.,"  # of a longer number: 3.14159265358
            if one.score >= LEAST_SCORE and one.entity_type in KINDS and not (within and one.entity_type == "PHONE_NUMBER"):
                found.append((one.start, -one.end, one.entity_type))
    removed: Counter[str] = Counter()
    parts, at = [], 0
    for start, minus_end, kind in sorted(found):
        if start < at:  # within one that is gone already
            continue
        parts += [text[at:start], KINDS[kind]]
        at = -minus_end
        removed[kind] += 1
    return "".join([*parts, text[at:]]), removed


def record_without_personal(record: Mapping[str, Any], removed: Counter[str]) -> dict[str, Any]:
    """A record of a file with such texts alone cleaned in which people or models wrote; what was taken out is added up."""

    def clean(value: Any, written: bool) -> Any:
        if isinstance(value, str):
            if not written:
                return value
            text, found = without_personal(value)
            removed.update(found)
            return text
        if isinstance(value, Mapping):
            return {name: clean(one, name in WRITTEN) for name, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(one, written) for one in value]
        return value

    return {name: clean(one, name in WRITTEN) for name, one in record.items()}


def told(removed: Mapping[str, int]) -> str:
    """In words, for people: ``2 e-mail, 1 phone``."""
    return ", ".join(f"{count:,} {KINDS[kind][1:-1]}" for kind, count in sorted(removed.items())) or "nothing"


def warm() -> None:
    """Load what recognises them, so that nobody waits for it."""
    _recognisers()


def _recognisers() -> list[Any]:
    with _MAKING:  # of several that come first one makes them
        return _made()


@functools.cache
def _made() -> list[Any]:
    """Made on first use, in about a second; with torch, which it would load for models that are not used here, it would be many,
    and 300 MB."""
    import tldextract.tldextract as domains  # which would ask the network for a newer list of domains

    domains.TLD_EXTRACTOR = domains.TLDExtract(suffix_list_urls=(), cache_dir=None)
    with _hidden("torch", "transformers"):
        from presidio_analyzer.predefined_recognizers import (
            CreditCardRecognizer,
            EmailRecognizer,
            IbanRecognizer,
            IpRecognizer,
            PhoneRecognizer,
            UsSsnRecognizer,
        )

    return [
        EmailRecognizer(), UsSsnRecognizer(), CreditCardRecognizer(), IbanRecognizer(), IpRecognizer(),
        PhoneRecognizer(supported_regions=REGIONS),
    ]  # fmt: skip


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Let modules that are not loaded yet look as if they were not installed, to this thread alone: what other threads import
    meanwhile finds things as they are."""
    here = threading.get_ident()

    class Absent(MetaPathFinder):
        def find_spec(self, name: str, *_: Any) -> None:
            if name in names and threading.get_ident() == here:
                raise ModuleNotFoundError(f"{name} is not needed here", name=name)

    finder = Absent()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
