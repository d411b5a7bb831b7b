"""Where snapshots and checkpoints are kept beside this machine: any place that fsspec reaches. Only the operator names it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.settings import section_of

DEPOT_VARIABLE = "RLHF_DEPOT"
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+")


@dataclass(frozen=True, slots=True)
class DepotSettings:
    """``url``: as fsspec writes it, ``s3://bucket/folder``, ``gs://...``, ``file:///mnt/nas``. ``options``: what its file system
    takes, keys and addresses among them; what is left out is found as the provider's own tools find it. ``patience_s``: how long
    a place that does not answer is asked again, seconds."""

    url: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    patience_s: float = 120.0

    @property
    def protocol(self) -> str:
        return self.url.partition("://")[0]


def depot_settings() -> DepotSettings:
    """From ``RLHF_DEPOT`` (the address alone), or ``[depot]`` in ``.streamlit/secrets.toml``: url, patience_s, and below
    ``[depot.options]`` what its file system takes. The options count with either.

    Raises:
        NotFound: none is set.
        InvalidInput: a setting is wrong.
    """
    given, where = section_of("depot")
    for name, value in given.items():
        kinds: dict[str, tuple[type, ...]] = {"url": (str,), "patience_s": (int, float), "options": (dict,)}
        if name not in kinds:
            raise InvalidInput(f"[depot] in {where} has no setting {name!r}. There are url, patience_s and [depot.options].")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise InvalidInput(f"{name} under [depot] in {where} is {value!r}; expected {kinds[name][0].__name__}.")
    url = os.environ.get(DEPOT_VARIABLE, "").strip() or str(given.get("url", "")).strip()
    if not url:
        raise NotFound(
            f"No depot is set. Name one with {DEPOT_VARIABLE}=s3://bucket/folder, or url under [depot] in secrets.toml."
        )
    if not _URL.fullmatch(url):
        raise InvalidInput(
            f"The depot's address is {url!r}; expected PROTOCOL://PLACE, as s3://bucket/folder or file:///mnt/nas."
        )
    if (patience := float(given.get("patience_s", 120.0))) < 0:
        raise InvalidInput(f"patience_s under [depot] in {where} is {patience:g}; expected 0 or more.")
    return DepotSettings(url.rstrip("/"), dict(given.get("options", {})), patience)
