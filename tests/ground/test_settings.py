import base64
import json
from pathlib import Path

import pytest

from rlhf_core.ground import settings
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.settings import PROJECT_ROOT, EndpointSettings, TeamSettings, endpoints, secret_key, team_settings

GOOD = {"SUPABASE_URL": "https://abc.supabase.co/", "SUPABASE_KEY": "sb_publishable_abc"}


def legacy(role: str) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"role": role, "iss": "supabase"}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "RLHF_ENDPOINT_URL",
        "RLHF_ENDPOINT_MODEL",
        "RLHF_ENDPOINT_KEY",
        "RLHF_STORE",
        "SUPABASE_URL",
        "SUPABASE_KEY",
        "SUPABASE_SECRET_KEY",
        "SUPABASE_OIDC_PROVIDER",
    ):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "secrets.toml"
    monkeypatch.setattr(settings, "SECRETS_FILES", (path, tmp_path / "home.toml"))
    return path


def put(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_nothing_set_is_the_embedded_store(secrets: Path) -> None:
    assert team_settings() is None
    secrets.write_text("[auth]\nclient_id = 'x'\n")
    assert team_settings() is None


def test_from_the_environment_or_the_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.write_text(f'[supabase]\nurl = "http://127.0.0.1:54321"\nkey = "{legacy("anon")}"\noidc_provider = "google"\n')
    assert team_settings() == TeamSettings("http://127.0.0.1:54321", legacy("anon"), "google")
    put(monkeypatch, **GOOD)
    assert team_settings() == TeamSettings("https://abc.supabase.co", "sb_publishable_abc", "google")
    put(monkeypatch, RLHF_STORE="sqlite")
    assert team_settings() is None


def test_the_example_file_is_right(secrets: Path) -> None:
    secrets.write_text((PROJECT_ROOT / ".streamlit" / "secrets.toml.example").read_text())
    found = team_settings()
    assert found is not None
    assert found.url.endswith(".supabase.co")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"SUPABASE_URL": GOOD["SUPABASE_URL"]}, "SUPABASE_KEY is missing"),
        ({"SUPABASE_KEY": GOOD["SUPABASE_KEY"]}, "SUPABASE_URL is missing"),
        ({"RLHF_STORE": "supabase"}, "SUPABASE_URL is missing"),
        ({"RLHF_STORE": "mysql"}, "RLHF_STORE is 'mysql'"),
        (GOOD | {"SUPABASE_URL": "abc.supabase.co"}, "SUPABASE_URL is 'abc.supabase.co'"),
        (GOOD | {"SUPABASE_URL": "https://abc.supabase.co/rest/v1"}, "nothing after it"),
        (GOOD | {"SUPABASE_URL": "https://abc.supabase.co:x"}, "no web address"),
        (GOOD | {"SUPABASE_URL": "http://abc.supabase.co"}, "without https"),
        (GOOD | {"SUPABASE_KEY": "my password"}, "SUPABASE_KEY is no Supabase key"),
        (GOOD | {"SUPABASE_KEY": "a.b.c"}, "SUPABASE_KEY is no Supabase key"),
        (GOOD | {"SUPABASE_KEY": "sb_secret_hush"}, "SUPABASE_KEY holds the secret key"),
        (GOOD | {"SUPABASE_KEY": legacy("service_role")}, "SUPABASE_KEY holds the secret key"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, **values)
    with pytest.raises(InvalidInput, match=message) as error:
        team_settings()
    assert values.get("SUPABASE_KEY", "nothing") not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[supabase\n", "is not TOML"),
        ('supabase = "x"\n', "is no section"),
        ("[supabase]\nurl = 5\n", "url under .supabase. in .*secrets.toml is 5"),
        ('[supabase]\nurl = "https://a.supabase.co"\nkey = "sb_secret_x"\n', "key in .*secrets.toml holds the secret key"),
    ],
)
def test_a_wrong_file_is_named(text: str, message: str, secrets: Path) -> None:
    secrets.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        team_settings()


def test_the_secret_key_comes_from_the_environment_only(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.write_text('[supabase]\nsecret_key = "sb_secret_x"\n')
    assert secret_key() is None
    put(monkeypatch, SUPABASE_SECRET_KEY="sb_publishable_x")
    with pytest.raises(InvalidInput, match="SUPABASE_SECRET_KEY holds no secret key"):
        secret_key()
    put(monkeypatch, SUPABASE_SECRET_KEY="sb_secret_x")
    assert secret_key() == "sb_secret_x"
    assert "abc" not in repr(TeamSettings("https://abc.supabase.co", "sb_publishable_abc")).replace("https://abc", "")


def test_endpoints_of_the_environment_and_of_the_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoints() == []
    secrets.write_text('[endpoints.local]\nbase_url = "http://localhost:8000/v1/"\nmodel = "a"\n'
                       '[endpoints.far]\nbase_url = "https://api.example.org/v1"\nmodel = "b"\nkey = "hush"\n')  # fmt: skip
    local, far = (
        EndpointSettings("local", "http://localhost:8000/v1", "a"),
        EndpointSettings("far", "https://api.example.org/v1", "b", "hush"),
    )
    assert endpoints() == [local, far]
    assert "hush" not in repr(far)
    put(monkeypatch, RLHF_ENDPOINT_URL="https://h/v1", RLHF_ENDPOINT_MODEL="m", RLHF_ENDPOINT_KEY="k")
    assert endpoints() == [EndpointSettings("m", "https://h/v1", "m", "k"), local, far]


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("", {"RLHF_ENDPOINT_URL": "https://h/v1"}, "RLHF_ENDPOINT_MODEL is missing"),
        ("", {"RLHF_ENDPOINT_URL": "http://example.org/v1", "RLHF_ENDPOINT_MODEL": "m"}, "without https"),
        ("", {"RLHF_ENDPOINT_URL": "h/v1", "RLHF_ENDPOINT_MODEL": "m"}, "expected the address of an API"),
        ("endpoints = 3", {}, "endpoints is no section"),
        ("[endpoints]\nbase_url = 'https://h/v1'", {}, r"write \[endpoints.base_url\]"),
        ("[endpoints.a]\nbase_url = 'https://h/v1'", {}, r"model under \[endpoints.a\] in .* is missing"),
        ("[endpoints.a]\nbase_url = 'https://h/v1'\nmodel = 3", {}, "is no text in quotes"),
        ("[endpoints.a]\nbase_url = 'https://h/v1'\nmodel = 'm'\nkee = 'x'", {}, "and base_url, model and key below it"),
        ("[endpoints.a]\nbase_url = 'ftp://h/v1'\nmodel = 'm'", {}, r"base_url under \[endpoints.a\]"),
    ],
)
def test_a_wrong_endpoint_is_named(
    secrets: Path, text: str, values: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    secrets.write_text(text)
    put(monkeypatch, **values)
    with pytest.raises(InvalidInput, match=message):
        endpoints()
