from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.records import Session, content_id, new_id, utc_now
from rlhf_core.store.base import Store, UserStore
from rlhf_core.store.sqlite import SqliteStore
from rlhf_core.store.sqlite_database import Database
from tests.contract.judgement_contract import JudgementContract
from tests.contract.labelling_contract import LabellingContract
from tests.contract.rollout_contract import Answered, RolloutContract
from tests.contract.store_contract import StoreContract


class TestSqliteStore(StoreContract, LabellingContract, JudgementContract, RolloutContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        database = Database(tmp_path / "store.sqlite3")
        yield SqliteStore(database)
        database.close()

    @pytest.fixture
    def person(self, store: Store) -> Callable[[str], Session]:
        return lambda name: Session(store.add_profile(content_id("person", name), name, "local").user_id, name)

    @pytest.fixture
    def delete_chat(self, store: Store, tmp_path: Path) -> Callable[[str], None]:
        def delete(chat_id: str) -> None:
            with Database(tmp_path / "store.sqlite3").transaction() as connection:
                connection.execute("DELETE FROM chats WHERE id = ?", (chat_id,))

        return delete

    @pytest.fixture
    def answered(self, tmp_path: Path, store: Store) -> Answered:
        def add(person: Session, checkpoint: str, answer: str, **served: Any) -> str:
            chat_id = new_id()
            with Database(tmp_path / "store.sqlite3").transaction() as connection:
                connection.execute(
                    "INSERT INTO chats (id, owner_id, query, response, source, created_at) VALUES (?, ?, 'q', ?, 'test', ?)",
                    (chat_id, person.user_id, answer, utc_now()),
                )
                connection.execute(
                    "INSERT INTO served_chats (chat_id, at, checkpoint_id, begun, refused, latency_ms) VALUES (?, ?, ?, ?, ?, ?)",
                    (chat_id, utc_now(), checkpoint, served.get("begun"), served.get("refused"), served.get("latency_ms")),
                )
            return chat_id

        return add

    @pytest.fixture
    def keeper(self, store: Store, person: Callable[[str], Session]) -> UserStore:
        return store.for_user(person("Kim"))

    @pytest.fixture
    def mine(self, store: Store) -> Callable[[Session], UserStore]:
        return store.for_user
