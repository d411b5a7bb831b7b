"""Where things live. Everything a user makes is in one folder: the workspace."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rlhf_core.ground.errors import InvalidInput, NotFound, disk_errors

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SQL_ROOT = PROJECT_ROOT / "sql"
WORKSPACE_VARIABLE = "RLHF_WORKSPACE"
STORE_VARIABLE = "RLHF_STORE"
REWARD_FUNCTIONS_VARIABLE = "RLHF_REWARD_FUNCTIONS"  # module:function, with commas between them
HOSTS_VARIABLE = "RLHF_HOSTS"  # names that the pages answer under beside this machine's, with commas between them
URL_VARIABLE, KEY_VARIABLE, SECRET_KEY_VARIABLE = "SUPABASE_URL", "SUPABASE_KEY", "SUPABASE_SECRET_KEY"
OIDC_VARIABLE = "SUPABASE_OIDC_PROVIDER"
ENDPOINT_URL_VARIABLE, ENDPOINT_MODEL_VARIABLE = "RLHF_ENDPOINT_URL", "RLHF_ENDPOINT_MODEL"
ENDPOINT_KEY_VARIABLE = "RLHF_ENDPOINT_KEY"
SECRETS_FILES = (PROJECT_ROOT / ".streamlit" / "secrets.toml", Path("~/.streamlit/secrets.toml"))

_PROJECT_ADDRESS = "the project's address and nothing after it: https://NAME.supabase.co"
ENGINE_ADDRESS = "the address of a Ray cluster's dashboard: http://HEAD:8265"
_ENDPOINT_ADDRESS = "the address of an API as its documentation gives it, often with /v1 behind it: https://HOST/v1"


@dataclass(frozen=True, slots=True)
class Workspace:
    """One folder that holds everything a user makes. Copy the folder and you have copied the work."""

    root: Path

    @classmethod
    def resolve(cls, explicit: str | Path | None = None) -> Workspace:
        """``explicit``, else ``$RLHF_WORKSPACE``, else ``data/`` beside ``app.py``; created where it is missing.

        Raises:
            InvalidInput: the path is a file.
            StoreUnavailable: the folder cannot be made.
        """
        root = cls.root_named(explicit)
        workspace = cls(root)
        with disk_errors("making the workspace", root):
            if root.exists() and not root.is_dir():
                raise InvalidInput(f"The workspace {root} is a file. Name a folder with --workspace or {WORKSPACE_VARIABLE}.")
            root.mkdir(mode=0o700, parents=True, exist_ok=True)  # ratings and keys are nobody else's
            for folder in (workspace.snapshots, workspace.runs, workspace.checkpoints, workspace.keys):
                folder.mkdir(exist_ok=True)
        return workspace

    @staticmethod
    def root_named(explicit: str | Path | None = None) -> Path:
        """Which folder :meth:`resolve` would open; touches no disk.

        Raises:
            InvalidInput: ``~somebody`` who does not exist.
        """
        given = Path(explicit or os.environ.get(WORKSPACE_VARIABLE) or PROJECT_ROOT / "data")
        try:
            return given.expanduser().absolute()
        except RuntimeError as error:
            raise InvalidInput(f"The workspace {given} cannot be found: {error}") from error

    @property
    def database(self) -> Path:
        return self.root / "workbench.sqlite3"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def keys(self) -> Path:
        """Secrets of the workspace. Kept outside snapshots: without them a pseudonym leads to nobody."""
        return self.root / "keys"

    @property
    def score_cache(self) -> Path:
        """Rewards that were worked out before; it may be deleted at any time."""
        return self.root / "cache" / "scores.sqlite3"

    @property
    def supervisor_lock(self) -> Path:
        return self.root / "supervisor.lock"

    def run_folder(self, run_id: str) -> Path:
        return self.runs / run_id


@dataclass(frozen=True, slots=True)
class TeamSettings:
    """Where a team's store is. ``key`` is the publishable key: it opens nothing that row level security does not."""

    url: str
    key: str = field(repr=False)
    oidc_provider: str | None = None
    """Offer ``st.login`` too; the name that the Supabase project knows the provider by."""


def team_settings() -> TeamSettings | None:
    """The team's store, from the environment or else ``.streamlit/secrets.toml``; None: the embedded store.

    ``RLHF_STORE`` (``sqlite`` or ``supabase``) decides; without it, a Supabase setting that is there does.

    Raises:
        InvalidInput: a setting is missing or wrong; the message names it and where it was read.
    """
    choice = os.environ.get(STORE_VARIABLE, "").strip().lower()
    if choice not in ("", "sqlite", "supabase"):
        raise InvalidInput(f"{STORE_VARIABLE} is {choice!r}. Set it to sqlite or supabase, or leave it out.")
    if choice == "sqlite":
        return None
    secrets, where = section_of("supabase")
    (url, url_from), (key, key_from) = (
        _setting(variable, secrets, name, where) for variable, name in ((URL_VARIABLE, "url"), (KEY_VARIABLE, "key"))
    )
    if not url and not key and not choice:
        return None
    for value, variable, name in ((url, URL_VARIABLE, "url"), (key, KEY_VARIABLE, "key")):
        if not value:
            raise InvalidInput(
                f"{variable} is missing: set it in the environment, or {name} under [supabase] in .streamlit/secrets.toml "
                f"(secrets.toml.example shows how). {STORE_VARIABLE}=sqlite uses the embedded store instead."
            )
    provider, _ = _setting(OIDC_VARIABLE, secrets, "oidc_provider", where)
    return TeamSettings(checked_url(url, url_from), _checked_key(key, key_from), provider or None)


def secret_key() -> str | None:
    """The operator's key, for commands only and from the environment only; the app never keeps it.

    Raises:
        InvalidInput: it is no secret key.
    """
    key = os.environ.get(SECRET_KEY_VARIABLE, "").strip()
    if key and _kind_of_key(key) != "secret":
        raise InvalidInput(f"{SECRET_KEY_VARIABLE} holds no secret key (sb_secret_… or the legacy service_role key).")
    return key or None


def check_reward_function(name: str) -> None:
    """Whether a run may call this function of Python. On the embedded store, where who starts runs has the machine already, any;
    on a team's, where an engineer has a role and no shell, those that the operator lists.

    Raises:
        InvalidInput: it is not listed.
    """
    listed = {one.strip() for one in os.environ.get(REWARD_FUNCTIONS_VARIABLE, "").split(",") if one.strip()}
    if name not in listed and (listed or team_settings() is not None):
        raise InvalidInput(
            f"The reward function {name!r} is not one that the operator lists"
            + (f" ({', '.join(sorted(listed))})" if listed else "")
            + f". It would run on the server; to allow it, put it into {REWARD_FUNCTIONS_VARIABLE} there."
        )


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """An OpenAI-compatible server that writes answers. Only the operator names one, so that its key goes to no other address."""

    name: str
    base_url: str
    model: str
    key: str = field(default="", repr=False)


def endpoints() -> list[EndpointSettings]:
    """Those of the environment (``RLHF_ENDPOINT_URL``, ``_MODEL``, ``_KEY``; called by its model) and of ``[endpoints.NAME]`` in
    ``.streamlit/secrets.toml``.

    Raises:
        InvalidInput: a setting is missing or wrong; the message names it and where it was read.
    """
    found = []
    if url := os.environ.get(ENDPOINT_URL_VARIABLE, "").strip():
        model = os.environ.get(ENDPOINT_MODEL_VARIABLE, "").strip()
        if not model:
            raise InvalidInput(f"{ENDPOINT_MODEL_VARIABLE} is missing: set it to the model that {ENDPOINT_URL_VARIABLE} serves.")
        url = checked_url(url, ENDPOINT_URL_VARIABLE, _ENDPOINT_ADDRESS)
        found.append(EndpointSettings(model, url, model, os.environ.get(ENDPOINT_KEY_VARIABLE, "").strip()))
    secrets, where = section_of("endpoints")
    for name, given in secrets.items():
        if not isinstance(given, dict) or given.keys() - {"base_url", "model", "key"}:
            raise InvalidInput(f"{where}: write [endpoints.{name}], and base_url, model and key below it.")
        values = {}
        for part in ("base_url", "model", "key"):
            values[part] = value = given.get(part, "")
            if not isinstance(value, str) or (not value.strip() and part != "key"):
                raise InvalidInput(f"{part} under [endpoints.{name}] in {where} is missing or is no text in quotes.")
        url = checked_url(values["base_url"].strip(), f"base_url under [endpoints.{name}] in {where}", _ENDPOINT_ADDRESS)
        found.append(EndpointSettings(name, url, values["model"].strip(), values["key"].strip()))
    return found


def endpoint_named(name: str) -> EndpointSettings:
    """
    Raises:
        NotFound: there is none of that name. InvalidInput: as of :func:`endpoints`.
    """
    found = next((one for one in endpoints() if one.name == name), None)
    if found is None:
        raise NotFound(f"There is no endpoint {name!r} in the settings. See .streamlit/secrets.toml.example.")
    return found


def section_of(section: str) -> tuple[Mapping[str, Any], str]:
    """A section of the first secrets file that has it, and which file that is; empty where none does.

    Raises:
        InvalidInput: the file is no TOML, or it is no section there.
    """
    for path in (file.expanduser() for file in SECRETS_FILES):
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} cannot be read: {error}.") from error
        try:
            found = tomllib.loads(text).get(section, {})
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(
                f"{path} is not TOML: {error}. secrets.toml.example beside it shows how it should look."
            ) from error
        if not isinstance(found, dict):
            raise InvalidInput(f"{path}: {section} is no section. Write [{section}], as secrets.toml.example shows.")
        if found:
            return found, str(path)
    return {}, ""


def _setting(variable: str, secrets: Mapping[str, Any], name: str, where: str) -> tuple[str, str]:
    if value := os.environ.get(variable, "").strip():
        return value, variable
    value = secrets.get(name, "")
    if not isinstance(value, str):
        raise InvalidInput(f"{name} under [supabase] in {where} is {value!r}; expected text in quotes.")
    return value.strip(), f"{name} in {where}"


def checked_url(url: str, where: str, expected: str = _PROJECT_ADDRESS) -> str:
    """The address without a slash behind it.

    Raises:
        InvalidInput: it is none, has what it must not have, or would carry secrets in the open.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise InvalidInput(f"{where} is {url!r}, which is no web address: {error}.") from error
    path = parts.path.strip("/") if expected == _PROJECT_ADDRESS else ""
    if parts.scheme not in ("http", "https") or not host or path or parts.query or parts.username:
        raise InvalidInput(f"{where} is {url!r}; expected {expected}")
    if parts.scheme == "http" and not _is_private(host):
        raise InvalidInput(f"{where} is {url!r}: without https, secrets would travel in the open. Write https://{host}")
    return url.rstrip("/")


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host  # a name of this machine or of a container beside it


def _checked_key(key: str, where: str) -> str:
    kind = _kind_of_key(key)
    if kind == "secret":
        raise InvalidInput(
            f"{where} holds the secret key, which opens everything to everybody. Put the publishable key there "
            f"(sb_publishable_…, or the legacy anon key); commands read the secret key from {SECRET_KEY_VARIABLE}."
        )
    if kind is None:
        raise InvalidInput(
            f"{where} is no Supabase key. Copy the publishable key (sb_publishable_…, or the legacy anon key) from the "
            "project's API settings."
        )
    return key


def _kind_of_key(key: str) -> str | None:
    if key.startswith("sb_"):
        return "secret" if key.startswith("sb_secret_") else "publishable" if key.startswith("sb_publishable_") else None
    try:
        payload = key.split(".")[1]
        role = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("role")
    except (IndexError, ValueError, AttributeError, binascii.Error):
        return None
    return {"service_role": "secret", "anon": "publishable"}.get(role)
