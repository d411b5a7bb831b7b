"""The same contract over HTTP with the real client and a real Postgres: people signed in, bulk writes by the operator."""

from collections.abc import Callable
from typing import Any

import pytest

from rlhf_core.ground.records import Session
from rlhf_core.store.base import Store, UserStore
from rlhf_core.store.supabase import SupabaseStore
from tests.contract.judgement_contract import JudgementContract
from tests.contract.labelling_contract import LabellingContract
from tests.contract.store_contract import StoreContract
from tests.supabase.server import TeamServer


class TestSupabaseStore(StoreContract, LabellingContract, JudgementContract):
    @pytest.fixture
    def store(self, operator: SupabaseStore) -> Store:
        return operator

    @pytest.fixture
    def person(self, sign_in: Any) -> Callable[[str], Session]:
        return lambda name: sign_in(name)[0]

    @pytest.fixture
    def delete_chat(self, team: TeamServer) -> Callable[[str], None]:
        return lambda chat_id: team.sql("delete from public.chats where id = %s", (chat_id,)) and None

    @pytest.fixture
    def keeper(self, sign_in: Any) -> UserStore:
        session, store = sign_in("Kim", "engineer")
        return store.for_user(session)

    @pytest.fixture
    def mine(self, sign_in: Any) -> Callable[[Session], UserStore]:
        return lambda session: sign_in(session.display_name)[1].for_user(session)
