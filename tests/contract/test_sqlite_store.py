from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlhf_core.ground.records import Session, content_id
from rlhf_core.store.base import Store, UserStore
from rlhf_core.store.sqlite import Database, SqliteStore
from tests.contract.judgement_contract import JudgementContract
from tests.contract.labelling_contract import LabellingContract
from tests.contract.store_contract import StoreContract


class TestSqliteStore(StoreContract, LabellingContract, JudgementContract):
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
    def keeper(self, store: Store, person: Callable[[str], Session]) -> UserStore:
        return store.for_user(person("Kim"))

    @pytest.fixture
    def mine(self, store: Store) -> Callable[[Session], UserStore]:
        return store.for_user
