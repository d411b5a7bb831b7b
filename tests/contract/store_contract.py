"""What every store must do. A backend's test module subclasses :class:`StoreContract` and gives a fresh ``store``, people, and
the store as each of them sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.records import Session, content_id, utc_now
from rlhf_core.ground.tables import EXPORT_COLUMNS
from rlhf_core.store.base import Store, UserStore

NOW = "2026-01-02T03:04:05.000006Z"
Mine = Callable[[Session], UserStore]


def uid(*parts: object) -> str:
    return content_id("test", *map(str, parts))


def step(chat_id: str, k: int) -> str:
    return uid(chat_id, k)


C = uid("c")
CHAT = (C, "q", "r", "s", None, None, NOW)


def add_chat(store: Store, name: str, steps: int = 2, created_at: str = NOW) -> str:
    chat_id = uid("chat", name)
    with store.bulk() as (writer, _):
        writer.add_chats([(chat_id, f"query {name}", "answer", "test", None, None, created_at)])
        writer.add_steps([(step(chat_id, k), chat_id, f"step {k}", k, created_at) for k in range(1, steps + 1)])
    return chat_id


class StoreContract:
    @pytest.fixture
    def store(self) -> Store:
        """An empty store as somebody sees it who may do everything but rate for others."""
        raise NotImplementedError

    @pytest.fixture
    def person(self, store: Store) -> Callable[[str], Session]:
        """Make somebody who may rate."""
        raise NotImplementedError

    @pytest.fixture
    def mine(self, store: Store) -> Mine:
        """The store as this person uses it."""
        raise NotImplementedError

    @pytest.fixture
    def ana(self, person: Callable[[str], Session]) -> Session:
        return person("Ana")

    @pytest.fixture
    def ben(self, person: Callable[[str], Session]) -> Session:
        return person("Ben")

    def test_a_rating_is_there_after_the_call_returns(self, store: Store, ana: Session, mine: Mine) -> None:
        chat = add_chat(store, "a")
        before = utc_now()
        saved = mine(ana).rate(chat, step(chat, 1), 4, "stars")
        assert (saved.feedback_type, saved.feedback_score, saved.scale, saved.user_id) == ("positive", 4, "stars", ana.user_id)
        assert before <= saved.created_at == saved.updated_at <= utc_now()
        assert mine(ana).ratings(chat) == {step(chat, 1): saved}

    def test_changing_ones_mind_updates_and_never_counts_double(self, store: Store, ana: Session, mine: Mine) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        first = hers.rate(chat, None, 5, "thumbs")
        hers.comment(chat, None, "why")
        second = hers.rate(chat, None, 2, "stars")
        assert (second.id, second.created_at) == (first.id, first.created_at)
        assert (second.feedback_score, second.feedback_type, second.scale, second.comment) == (2, "negative", "stars", "why")
        assert store.counts().ratings == 1

    def test_people_rate_side_by_side(self, store: Store, ana: Session, ben: Session, mine: Mine) -> None:
        chat = add_chat(store, "a")
        mine(ana).rate(chat, step(chat, 1), 5, "stars")
        mine(ben).rate(chat, step(chat, 1), 2, "stars")
        assert store.mean_scores(chat) == {step(chat, 1): (3.5, 2)}
        assert [one.feedback_score for one in mine(ben).ratings(chat).values()] == [2]

    @pytest.mark.parametrize("score", [0, 6, 2.5, float("nan"), True])
    def test_only_whole_scores_from_1_to_5(self, store: Store, ana: Session, score: Any, mine: Mine) -> None:
        chat = add_chat(store, "a")
        with pytest.raises(InvalidInput):
            mine(ana).rate(chat, None, score, "stars")
        assert store.counts().ratings == 0

    def test_a_step_is_rated_under_its_own_chat_only(self, store: Store, ana: Session, mine: Mine) -> None:
        first, second = add_chat(store, "a"), add_chat(store, "b")
        with pytest.raises(NotFound, match="has no step"):
            mine(ana).rate(first, step(second, 1), 5, "stars")
        with pytest.raises(NotFound, match="does not exist"):
            mine(ana).rate("nowhere", None, 5, "stars")
        assert store.counts().ratings == 0

    def test_comments_hang_on_ratings(self, store: Store, ana: Session, mine: Mine) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        with pytest.raises(NotFound, match="Rate first"):
            hers.comment(chat, None, "x")
        hers.rate(chat, None, 3, "stars")
        assert hers.comment(chat, None, "  so ' \"; --  ").comment == "so ' \"; --"
        assert hers.comment(chat, None, " ").comment is None
        with pytest.raises(InvalidInput, match="8,001"):
            hers.comment(chat, None, "x" * 8001)
        for text in ("a\x00b", "a\ud800b"):
            with pytest.raises(InvalidInput, match="cannot be stored"):
                hers.comment(chat, None, text)
        assert hers.comment(chat, None, "שלום 🌞\u2028").comment == "שלום 🌞"

    def test_taking_a_rating_back(self, store: Store, ana: Session, mine: Mine) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        hers.rate(chat, None, 3, "stars")
        assert hers.withdraw(chat, None)
        assert not hers.withdraw(chat, None)
        assert hers.ratings(chat) == {}

    def test_a_chat_comes_with_its_steps_in_order(self, store: Store) -> None:
        chat = store.chat(add_chat(store, "a", steps=12))
        assert [one.step_order for one in chat.steps] == list(range(1, 13))
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
            writer.add_chats([CHAT])
            raise RuntimeError
        assert store.counts().chats == 0

    def test_a_bulk_write_again_adds_nothing_and_keeps_changed_minds(self, store: Store, ana: Session, mine: Mine) -> None:
        feedback = [(uid("f"), C, None, ana.user_id, "positive", 5, "stars", None, NOW, NOW)]

        def add() -> tuple[int, int, int, int]:
            with store.bulk() as (writer, counts):
                writer.add_profiles([(ana.user_id, "Ana")], "imported")
                writer.add_chats([CHAT])
                writer.add_steps([(step(C, 1), C, "one", 1, NOW)])
                writer.add_feedback(feedback)
            return counts.chats, counts.ratings, counts.known_chats, counts.known_ratings

        assert add() == (1, 1, 0, 0)
        mine(ana).rate(C, None, 1, "stars")
        assert add() == (0, 0, 1, 1)
        assert mine(ana).ratings(C)[None].feedback_score == 1

    def test_a_bulk_write_of_many_rows(self, store: Store) -> None:
        """More than fit into one request, and more than one page shows."""
        count = 5_500
        with store.bulk() as (writer, counts):
            writer.add_profiles([(uid("rater"), "Rui")], "imported")
            for begin in range(0, count, 500):
                ids = range(begin, begin + 500)
                writer.add_chats([(uid("many", k), f"query {k}", "answer", "test", None, str(k), NOW) for k in ids])
                writer.add_steps([(step(uid("many", k), 1), uid("many", k), f"step {k}", 1, NOW) for k in ids])
                writer.add_feedback([
                    (uid("f", k), uid("many", k), None, uid("rater"), "positive", 5, "stars", "dé\u2028", NOW, NOW) for k in ids
                ])  # fmt: skip
        assert (counts.chats, counts.steps, counts.ratings) == (count, count, count)
        with store.export() as export:
            chats = [row[0] for batch in export.rows("chats") for row in batch]
            feedback = [row for batch in export.rows("chat_feedback") for row in batch]
            steps = [row[1] for batch in export.rows("reasoning_steps") for row in batch]
        assert chats == steps == sorted(uid("many", k) for k in range(count))
        assert [row[0] for row in feedback] == sorted(uid("f", k) for k in range(count))
        assert {row[7:] for row in feedback} == {("dé\u2028", NOW, NOW)}

    def test_consent_counts_from_the_next_export_on(self, store: Store, ana: Session, mine: Mine) -> None:
        chat = add_chat(store, "x")
        hers = mine(ana)
        hers.rate(chat, None, 4, "stars")
        hers.rate(chat, step(chat, 1), 2, "stars")
        assert hers.consent() == (None, None)

        def exported() -> tuple[int, list[Any]]:
            with store.export() as export:
                people = [row[2] for batch in export.rows("people") for row in batch]
                rows = sum(map(len, export.rows("chat_feedback")))
                assert rows == sum(len(one) if isinstance(one, list) else one.count
                                   for part in export.parts("chat_feedback") for one in part.read())  # fmt: skip
                assert sum(map(len, export.rows("chats"))) == 1
                return rows, people

        assert exported() == (2, [None])
        hers.set_consent("withdrawn")
        assert hers.consent()[0] == "withdrawn"
        assert exported() == (0, ["withdrawn"])
        hers.set_consent("given")
        assert exported() == (2, ["given"])
        assert hers.consent()[1] is not None

    @pytest.mark.parametrize(
        "change",
        [
            {"feedback_type": "negative"},
            {"feedback_score": 6},
            {"step_id": uid("other-1")},
            {"user_id": uid("nobody")},
            {"created_at": "2026-01-01 00:00"},
        ],
        ids=["type contradicts score", "6 stars", "a step of another chat", "an unknown person", "no time zone"],
    )
    def test_the_schema_itself_refuses(self, store: Store, ana: Session, change: dict[str, Any]) -> None:
        add_chat(store, "x")
        good = (uid("f"), C, None, ana.user_id, "positive", 5, "stars", None, NOW, NOW)
        row = tuple((dict(zip(EXPORT_COLUMNS["chat_feedback"], good, strict=True)) | change).values())
        with pytest.raises(Exception, match=r"(?i)constraint"), store.bulk() as (writer, _):
            writer.add_chats([CHAT, (uid("other"), "q", "r", "s", None, None, NOW)])
            writer.add_steps([(uid("other-1"), uid("other"), "one", 1, NOW)])
            writer.add_feedback([row])
        assert store.counts().chats == 1

    def test_all_that_rating_needs_comes_at_once(self, store: Store, ana: Session, ben: Session, mine: Mine) -> None:
        chat = add_chat(store, "a")
        saved = mine(ana).rate(chat, step(chat, 2), 2, "thumbs")
        mine(ben).rate(chat, None, 5, "stars")
        view = mine(ana).view(chat)
        assert view.chat == store.chat(chat)
        assert view.ratings == {step(chat, 2): saved}
        with pytest.raises(NotFound, match="no chat 'nowhere'"):
            mine(ana).view("nowhere")
        with pytest.raises(NotFound, match="no chat"):
            mine(ana).view(uid("nowhere"))

    def test_export_shows_one_moment(self, store: Store, ana: Session, mine: Mine) -> None:
        chat = add_chat(store, "a")
        mine(ana).rate(chat, None, 4, "stars")
        with store.export() as export:
            assert sum(map(len, export.rows("chats"))) == 1
            added = threading.Thread(target=lambda: add_chat(store, "late"))
            added.start()
            added.join()
            mine(ana).rate(chat, step(chat, 1), 4, "stars")
            assert [len(row) for batch in export.rows("chat_feedback") for row in batch] == [len(EXPORT_COLUMNS["chat_feedback"])]
            assert sum(map(len, export.rows("reasoning_steps"))) == 2
        with store.export() as export:
            assert sum(map(len, export.rows("chat_feedback"))) == 2
            assert list(export.rows("chat_feedback", since="2999-01-01T00:00:00.000000Z")) == []

    def test_many_threads_at_once_lose_nothing(self, store: Store, person: Any, mine: Mine) -> None:
        chat = add_chat(store, "a", steps=20)
        people = [person(f"P{k}") for k in range(8)]
        failures: list[BaseException] = []

        def work(session: Session) -> None:
            try:
                for k in range(1, 21):
                    mine(session).rate(chat, step(chat, k), 1 + k % 5, "stars")
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
        before = len(store.profiles())
        first = store.add_profile(uid("u1"), " Ana ", "imported")
        assert first.display_name == "Ana"
        assert store.add_profile(uid("u1"), "Other", "demo") == first
        store.add_profile(uid("u2"), "Bot", "demo")
        assert [one.user_id for one in store.profiles("imported")] == [uid("u1")]
        assert len(store.profiles()) == before + 2
        for name in ("  ", "x" * 201, "two\nlines"):
            with pytest.raises(InvalidInput, match="name"):
                store.add_profile(uid("u3"), name, "imported")
        with store.bulk() as (writer, _):  # a file's names are made fit instead
            writer.add_profiles([(uid("u4"), "x" * 300), (uid("u5"), "two\nlines")], "imported")
        assert len(store.profiles()) == before + 4
