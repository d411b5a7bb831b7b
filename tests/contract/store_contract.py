"""What every store must do. A backend's test module subclasses :class:`StoreContract` and gives a fresh ``store``."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.records import Session, utc_now
from rlhf_core.ground.tables import EXPORT_COLUMNS
from rlhf_core.store.base import Store

NOW = "2026-01-02T03:04:05.000006Z"


def add_chat(store: Store, name: str, steps: int = 2, created_at: str = NOW) -> str:
    chat_id = f"chat-{name}"
    with store.bulk() as (writer, _):
        writer.add_chats([(chat_id, f"query {name}", "answer", "test", None, None, created_at)])
        writer.add_steps([(f"{chat_id}-{k}", chat_id, f"step {k}", k, created_at) for k in range(1, steps + 1)])
    return chat_id


class StoreContract:
    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def ana(self, store: Store) -> Session:
        return Session(store.add_profile("u-ana", "Ana", "local").user_id, "Ana")

    @pytest.fixture
    def ben(self, store: Store) -> Session:
        return Session(store.add_profile("u-ben", "Ben", "local").user_id, "Ben")

    def test_a_rating_is_there_after_the_call_returns(self, store: Store, ana: Session) -> None:
        chat = add_chat(store, "a")
        before = utc_now()
        saved = store.for_user(ana).rate(chat, f"{chat}-1", 4, "stars")
        assert (saved.feedback_type, saved.feedback_score, saved.scale, saved.user_id) == ("positive", 4, "stars", "u-ana")
        assert before <= saved.created_at == saved.updated_at <= utc_now()
        assert store.for_user(ana).ratings(chat) == {f"{chat}-1": saved}

    def test_changing_ones_mind_updates_and_never_counts_double(self, store: Store, ana: Session) -> None:
        chat, mine = add_chat(store, "a"), store.for_user(ana)
        first = mine.rate(chat, None, 5, "thumbs")
        mine.comment(chat, None, "why")
        second = mine.rate(chat, None, 2, "stars")
        assert (second.id, second.created_at) == (first.id, first.created_at)
        assert (second.feedback_score, second.feedback_type, second.scale, second.comment) == (2, "negative", "stars", "why")
        assert store.counts().ratings == 1

    def test_people_rate_side_by_side(self, store: Store, ana: Session, ben: Session) -> None:
        chat = add_chat(store, "a")
        store.for_user(ana).rate(chat, f"{chat}-1", 5, "stars")
        store.for_user(ben).rate(chat, f"{chat}-1", 2, "stars")
        assert store.mean_scores(chat) == {f"{chat}-1": (3.5, 2)}
        assert [one.feedback_score for one in store.for_user(ben).ratings(chat).values()] == [2]

    @pytest.mark.parametrize("score", [0, 6, 2.5, float("nan"), True])
    def test_only_whole_scores_from_1_to_5(self, store: Store, ana: Session, score: Any) -> None:
        chat = add_chat(store, "a")
        with pytest.raises(InvalidInput):
            store.for_user(ana).rate(chat, None, score, "stars")
        assert store.counts().ratings == 0

    def test_a_step_is_rated_under_its_own_chat_only(self, store: Store, ana: Session) -> None:
        first, second = add_chat(store, "a"), add_chat(store, "b")
        with pytest.raises(NotFound, match="has no step"):
            store.for_user(ana).rate(first, f"{second}-1", 5, "stars")
        with pytest.raises(NotFound, match="does not exist"):
            store.for_user(ana).rate("nowhere", None, 5, "stars")
        assert store.counts().ratings == 0

    def test_comments_hang_on_ratings(self, store: Store, ana: Session) -> None:
        chat, mine = add_chat(store, "a"), store.for_user(ana)
        with pytest.raises(NotFound, match="Rate first"):
            mine.comment(chat, None, "x")
        mine.rate(chat, None, 3, "stars")
        assert mine.comment(chat, None, "  so ' \"; --  ").comment == "so ' \"; --"
        assert mine.comment(chat, None, " ").comment is None
        with pytest.raises(InvalidInput, match="8,001"):
            mine.comment(chat, None, "x" * 8001)

    def test_taking_a_rating_back(self, store: Store, ana: Session) -> None:
        chat, mine = add_chat(store, "a"), store.for_user(ana)
        mine.rate(chat, None, 3, "stars")
        assert mine.withdraw(chat, None)
        assert not mine.withdraw(chat, None)
        assert mine.ratings(chat) == {}

    def test_progress_and_what_comes_next(self, store: Store, ana: Session, ben: Session) -> None:
        times = [f"2026-01-0{day}T00:00:00.000000Z" for day in (1, 2, 3)]
        chats = [add_chat(store, name, created_at=time) for name, time in zip("abc", times, strict=True)]
        mine = store.for_user(ana)
        assert mine.next_chat() == chats[0]
        for place in (f"{chats[0]}-1", f"{chats[0]}-2", None):
            assert mine.progress().chats_done == 0
            mine.rate(chats[0], place, 4, "stars")
        assert (mine.progress().chats_done, mine.progress().chats_total, mine.progress().ratings) == (1, 3, 3)
        assert mine.next_chat() == chats[1]
        assert mine.next_chat(store.chat(chats[1])) == chats[2]
        assert mine.next_chat(store.chat(chats[2])) is None
        assert store.previous_chat(store.chat(chats[1])) == chats[0]
        assert store.previous_chat(store.chat(chats[0])) is None
        assert store.for_user(ben).progress().chats_done == 0

    def test_a_chat_comes_with_its_steps_in_order(self, store: Store) -> None:
        chat = store.chat(add_chat(store, "a", steps=12))
        assert [step.step_order for step in chat.steps] == list(range(1, 13))
        with pytest.raises(NotFound):
            store.chat("nowhere")

    def test_search_is_literal_and_ignores_case(self, store: Store) -> None:
        add_chat(store, "Solar 100%")
        add_chat(store, "wind_farm")
        assert [chat.query for chat in store.search_chats("SOLAR")] == ["query Solar 100%"]
        assert [chat.query for chat in store.search_chats("d_f")] == ["query wind_farm"]
        assert store.search_chats("%_%") == []
        assert len(store.search_chats("", limit=1)) == 1

    def test_a_bulk_write_is_whole_or_nothing(self, store: Store) -> None:
        with pytest.raises(RuntimeError), store.bulk() as (writer, _):
            writer.add_chats([("c", "q", "r", "s", None, None, NOW)])
            raise RuntimeError
        assert store.counts().chats == 0

    def test_a_bulk_write_again_adds_nothing_and_keeps_changed_minds(self, store: Store, ana: Session) -> None:
        feedback = [("f", "c", None, "u-ana", "positive", 5, "stars", None, NOW, NOW)]

        def add() -> tuple[int, int, int, int]:
            with store.bulk() as (writer, counts):
                writer.add_profiles([("u-ana", "Ana")], "imported")
                writer.add_chats([("c", "q", "r", "s", None, None, NOW)])
                writer.add_steps([("c-1", "c", "one", 1, NOW)])
                writer.add_feedback(feedback)
            return counts.chats, counts.ratings, counts.known_chats, counts.known_ratings

        assert add() == (1, 1, 0, 0)
        store.for_user(ana).rate("c", None, 1, "stars")
        assert add() == (0, 0, 1, 1)
        assert store.for_user(ana).ratings("c")[None].feedback_score == 1

    @pytest.mark.parametrize(
        "row",
        [
            ("f", "c", None, "u-ana", "negative", 5, "stars", None, NOW, NOW),
            ("f", "c", None, "u-ana", "positive", 6, "stars", None, NOW, NOW),
            ("f", "c", "other-1", "u-ana", "positive", 5, "stars", None, NOW, NOW),
            ("f", "c", None, "nobody", "positive", 5, "stars", None, NOW, NOW),
            ("f", "c", None, "u-ana", "positive", 5, "stars", None, "2026-01-01 00:00", NOW),
        ],
        ids=["type contradicts score", "6 stars", "a step of another chat", "an unknown person", "no time zone"],
    )
    def test_the_schema_itself_refuses(self, store: Store, ana: Session, row: tuple[Any, ...]) -> None:
        add_chat(store, "x")
        with pytest.raises(Exception, match=r"(?i)constraint"), store.bulk() as (writer, _):
            writer.add_chats([("c", "q", "r", "s", None, None, NOW), ("other", "q", "r", "s", None, None, NOW)])
            writer.add_steps([("other-1", "other", "one", 1, NOW)])
            writer.add_feedback([row])
        assert store.counts().chats == 1

    def test_export_shows_one_moment(self, store: Store, ana: Session) -> None:
        chat = add_chat(store, "a")
        store.for_user(ana).rate(chat, None, 4, "stars")
        with store.export() as export:
            assert sum(map(len, export.rows("chats"))) == 1
            added = threading.Thread(target=lambda: add_chat(store, "late"))
            added.start()
            added.join()
            store.for_user(ana).rate(chat, f"{chat}-1", 4, "stars")
            assert [len(row) for batch in export.rows("chat_feedback") for row in batch] == [len(EXPORT_COLUMNS["chat_feedback"])]
            assert sum(map(len, export.rows("reasoning_steps"))) == 2
        with store.export() as export:
            assert sum(map(len, export.rows("chat_feedback"))) == 2
            assert list(export.rows("chat_feedback", since="2999-01-01T00:00:00.000000Z")) == []

    def test_many_threads_at_once_lose_nothing(self, store: Store) -> None:
        chat = add_chat(store, "a", steps=20)
        people = [Session(store.add_profile(f"u{k}", f"P{k}", "local").user_id, f"P{k}") for k in range(8)]
        failures: list[BaseException] = []

        def work(session: Session) -> None:
            try:
                for k in range(1, 21):
                    store.for_user(session).rate(chat, f"{chat}-{k}", 1 + k % 5, "stars")
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(person,)) for person in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.counts().ratings == 160

    def test_profiles(self, store: Store) -> None:
        first = store.add_profile("u1", " Ana ", "local")
        assert first.display_name == "Ana"
        assert store.add_profile("u1", "Other", "demo") == first
        store.add_profile("u2", "Bot", "demo")
        assert [one.user_id for one in store.profiles("local")] == ["u1"]
        assert len(store.profiles()) == 2
        with pytest.raises(InvalidInput, match="needs a name"):
            store.add_profile("u3", "  ", "local")
