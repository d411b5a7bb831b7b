"""Every input that fuzzing has kept, once more through its target: see ``run.py``."""

from __future__ import annotations

from zipfile import ZipFile

import pytest

from tests.fuzz.run import CORPUS
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_is_mended(name: str) -> None:
    with ZipFile(CORPUS / f"{name}.zip") as file:
        inputs = {one: file.read(one) for one in file.namelist()}
    assert len(inputs) >= 3
    for one, data in inputs.items():
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"{name}: {one}: {data[:200]!r}") from error
