"""The same contract over HTTP with the real client and a real Postgres: people signed in, bulk writes by the operator."""

from collections.abc import Callable
from typing import Any

import pytest

from rlhf_core.ground.records import Session, new_id
from rlhf_core.store.base import Store, UserStore
from rlhf_core.store.supabase import SupabaseStore
from tests.contract.judgement_contract import JudgementContract
from tests.contract.labelling_contract import LabellingContract
from tests.contract.rollout_contract import Answered, RolloutContract
from tests.contract.store_contract import StoreContract
from tests.supabase.server import TeamServer


class TestSupabaseStore(StoreContract, LabellingContract, JudgementContract, RolloutContract):
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
    def answered(self, team: TeamServer) -> Answered:
        def add(person: Session, checkpoint: str, answer: str, **served: Any) -> str:
            chat_id = new_id()
            team.sql(
                "insert into public.chats (id, owner_id, query, response, source) values (%s, %s, 'q', %s, 'test')",
                (chat_id, person.user_id, answer),
            )
            team.sql(
                "insert into public.served_chats (chat_id, checkpoint_id, begun, refused, latency_ms) "
                "values (%s, %s, %s, %s, %s)",
                (chat_id, checkpoint, served.get("begun"), served.get("refused"), served.get("latency_ms")),
            )
            return chat_id

        return add

    @pytest.fixture
    def keeper(self, sign_in: Any) -> UserStore:
        session, store = sign_in("Kim", "engineer")
        return store.for_user(session)

    @pytest.fixture
    def mine(self, sign_in: Any) -> Callable[[Session], UserStore]:
        return lambda session: sign_in(session.display_name)[1].for_user(session)
