from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_core.store.base import Store
from rlhf_core.store.sqlite import Database, SqliteStore
from tests.contract.store_contract import StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        database = Database(tmp_path / "store.sqlite3")
        yield SqliteStore(database)
        database.close()
