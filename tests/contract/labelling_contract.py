"""What every store must do for the label page: queues and leases, what the page sends, one's own work."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from rlhf_core.ground.errors import Duplicate, InvalidInput, NotFound
from rlhf_core.ground.records import EVERY_PAIR, EVERYTHING, Change, LabelOp, Marks, Queue, Session, new_id
from rlhf_core.store.base import Store, UserStore
from tests.contract.store_contract import Mine, add_chat, step, uid


def rate(chat: str, k: int | None, score: Any, op_id: str | None = None) -> LabelOp:
    step_id = None if k is None else step(chat, k)
    return LabelOp(op_id or new_id(), "rate", chat, step_id, {"score": score, "scale": "stars"})


def done(chat: str, queue: str = EVERYTHING, kind: Any = "submit", **value: Any) -> LabelOp:
    return LabelOp(new_id(), kind, chat, None, {"queue": queue} | value)


def stored(outcomes: dict[str, str]) -> bool:
    return set(outcomes.values()) == {""}


class LabellingContract:
    @pytest.fixture
    def queue(self, store: Store) -> Callable[..., Queue]:
        def make(name: str = "q", **values: Any) -> Queue:
            return store.save_queue(Queue(uid("queue", name), name, **values))

        return make

    # what the page sends --------------------------------------------------------------------------------------------

    def test_operations_are_stored_in_order_and_once(self, store: Store, ana: Session, mine: Mine) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        ops = [
            rate(chat, 1, 5), rate(chat, 1, 2), LabelOp(new_id(), "comment", chat, step(chat, 1), {"text": " why "}),
            LabelOp(new_id(), "first_error", chat, step(chat, 1)), LabelOp(new_id(), "flag", chat, None, {"flag": "unsure"}),
            LabelOp(new_id(), "dwell", chat, step(chat, 1), {"ms": 1234}), rate(chat, None, 1),
            LabelOp(new_id(), "withdraw", chat, None),
        ]  # fmt: skip
        assert list(hers.apply(ops)) == [op.id for op in ops]
        view = hers.view(chat)
        assert {key: (one.feedback_score, one.comment) for key, one in view.ratings.items()} == {step(chat, 1): (2, "why")}
        assert view.marks == Marks(step(chat, 1), ("unsure",))
        hers.rate(chat, step(chat, 1), 4, "stars")
        assert stored(hers.apply(ops)), "sent again, as after a lost answer: no mind is changed back"
        assert hers.ratings(chat)[step(chat, 1)].feedback_score == 4
        assert len(hers.everything()["events"]) == 1

    def test_what_cannot_be_stored_says_why_and_stops_nothing(self, store: Store, ana: Session, mine: Mine) -> None:
        chat, other, hers = add_chat(store, "a"), add_chat(store, "b"), mine(ana)
        bad = [
            rate(uid("nowhere"), None, 3), LabelOp(new_id(), "rate", chat, step(other, 1), {"score": 3, "scale": "stars"}),
            rate(chat, 1, 6), rate(chat, 1, "5"), LabelOp(new_id(), "rate", chat, None, {"score": 3, "scale": "moons"}),
            LabelOp(new_id(), "comment", chat, step(chat, 2), {"text": "no rating yet"}),
            LabelOp(new_id(), "comment", chat, None, {"text": "x" * 8001}),
            LabelOp(new_id(), "first_error", chat, step(other, 1)), LabelOp(new_id(), "flag", chat, None, {"flag": "nonsense"}),
            LabelOp(new_id(), "dance", chat), LabelOp(new_id(), "rate", "no id", None, {"score": 3, "scale": "stars"}),
            done(chat, queue=uid("no queue")),
        ]  # fmt: skip
        good = [rate(chat, 1, 3), rate(chat, 2, 4)]
        outcomes = hers.apply([good[0], *bad, good[1]])
        assert [outcomes[op.id] for op in good] == ["", ""]
        assert all(len(outcomes[op.id]) > 20 for op in bad), [op for op in bad if len(outcomes[op.id]) <= 20]
        assert len(hers.ratings(chat)) == 2
        assert hers.view(chat).marks == Marks()

    def test_flags_and_first_errors_come_and_go(self, store: Store, ana: Session, ben: Session, mine: Mine) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        for kind, flag in (("flag", "unsure"), ("flag", "bad_prompt"), ("flag", "unsure"), ("unflag", "unsure")):
            assert stored(hers.apply([LabelOp(new_id(), kind, chat, None, {"flag": flag})]))  # type: ignore[arg-type]
        assert stored(hers.apply([LabelOp(new_id(), "first_error", chat, step(chat, 2))]))
        assert hers.view(chat).marks == Marks(step(chat, 2), ("bad_prompt",))
        assert stored(hers.apply([LabelOp(new_id(), "first_error", chat, None)]))
        assert hers.view(chat).marks == Marks(None, ("bad_prompt",))
        assert mine(ben).view(chat).marks == Marks()

    def test_two_hundred_keys_at_once(self, store: Store, ana: Session, mine: Mine) -> None:
        chat, hers = add_chat(store, "a", steps=10), mine(ana)
        ops = [rate(chat, 1 + k % 10, 1 + (k // 10) % 5) for k in range(200)]
        assert stored(hers.apply(ops))
        assert {one.feedback_score for one in hers.ratings(chat).values()} == {5}
        assert len(hers.changes(chat)) == 190

    # queues ---------------------------------------------------------------------------------------------------------

    def test_every_store_begins_with_two_queues(self, store: Store) -> None:
        queue, pairs = store.queues()
        assert (pairs.id, pairs.name, pairs.task) == (EVERY_PAIR, "Every two answers", "choose")
        assert (queue.id, queue.name, queue.overlap, queue.item_order, queue.archived) == (
            EVERYTHING,
            "Everything",
            1,
            "oldest",
            False,
        )

    def test_queues_are_kept(self, store: Store, queue: Any) -> None:
        made = queue("Hard ones", guidelines="# Rules", item_order="random", overlap=3, lease_s=60, source=" s ", words=" Solar ")
        assert (made.words, made.guidelines, made.lease_s) == ("Solar", "# Rules", 60)
        assert store.queues()[2] == made
        changed = queue("Hard ones", overlap=2)
        assert (changed.id, changed.overlap, changed.created_at) == (made.id, 2, made.created_at)
        store.archive_queue(made.id)
        assert [one.archived for one in store.queues()] == [False, False, True]
        store.archive_queue(made.id, archived=False)
        with pytest.raises(Duplicate, match="'Hard ones'"):
            store.save_queue(Queue(uid("another"), "Hard ones"))
        for wrong in ({"name": " "}, {"overlap": 0}, {"lease_s": 0}, {"item_order": "best"}, {"item_order": "uncertain"}):
            with pytest.raises(InvalidInput):
                store.save_queue(Queue(**({"id": uid("x"), "name": "x"} | wrong)))  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            store.archive_queue(uid("nothing"))

    def test_items_are_handed_out_in_order_and_not_twice(self, store: Store, ana: Session, ben: Session, mine: Mine) -> None:
        chats = [add_chat(store, name, created_at=f"2026-01-0{k}T00:00:00.000000Z") for k, name in enumerate("abcd", 1)]
        hers, his = mine(ana), mine(ben)
        views = hers.claim(EVERYTHING, 2)
        assert [view.chat.id for view in views] == [view.chat.id for view in hers.claim(EVERYTHING, 2)] == chats[:2]
        assert views[0] == hers.view(chats[0])
        assert [view.chat.id for view in his.claim(EVERYTHING, 3)] == chats[2:]
        assert [view.chat.id for view in hers.claim(EVERYTHING, 3)] == chats[:2], "what one holds stays, and nothing else is free"
        assert stored(hers.apply([done(chats[0]), done(chats[1], kind="skip", reason="too long")]))
        assert hers.claim(EVERYTHING, 3) == []
        his.release(EVERYTHING, chats[2])
        assert [view.chat.id for view in hers.claim(EVERYTHING, 3)] == [chats[2]]
        his.release(EVERYTHING)
        assert [view.chat.id for view in his.claim(EVERYTHING, 9)] == [chats[1], chats[3]], "what she skipped is his to do"
        progress = hers.queue_progress(EVERYTHING)
        assert (progress.submitted, progress.skipped, progress.items, progress.finished) == (1, 1, 4, 1)
        with pytest.raises(NotFound, match="no queue"):
            hers.claim(uid("nothing"), 1)
        with pytest.raises(NotFound, match="no queue"):
            hers.claim("nothing", 1)
        store.archive_queue(EVERYTHING)
        try:
            with pytest.raises(NotFound, match="closed"):
                hers.claim(EVERYTHING, 1)
        finally:
            store.archive_queue(EVERYTHING, archived=False)

    def test_an_overlap_of_two(self, store: Store, queue: Any, person: Any, mine: Mine) -> None:
        chat, two = add_chat(store, "a"), queue("two", overlap=2)
        people = [mine(person(name)) for name in ("Ana", "Ben", "Cai")]
        assert [len(one.claim(two.id, 5)) for one in people] == [1, 1, 0]
        assert stored(people[0].apply([done(chat, two.id)]))
        assert [len(one.claim(two.id, 5)) for one in people] == [0, 1, 0]
        assert people[0].queue_progress(two.id).finished == 0
        assert stored(people[1].apply([done(chat, two.id)]))
        assert people[0].queue_progress(two.id).finished == 1

    @pytest.mark.slow
    def test_a_lease_that_runs_out(self, store: Store, queue: Any, ana: Session, ben: Session, mine: Mine) -> None:
        chats, short = [add_chat(store, name) for name in "ab"], queue("short", lease_s=1)
        hers, his = mine(ana), mine(ben)
        first = hers.claim(short.id, 1)[0].chat.id
        time.sleep(1.2)
        assert first in [view.chat.id for view in his.claim(short.id, 2)]
        op = rate(first, 1, 4)
        late = done(first, short.id)
        outcomes = hers.apply([op, late])
        assert outcomes[op.id] == ""
        assert "Your ratings are kept" in outcomes[late.id]
        assert len(hers.ratings(first)) == 1
        assert first not in [view.chat.id for view in hers.claim(short.id, 1)]
        time.sleep(1.2)  # his have run out too, and nobody has taken them: they are still his to finish
        assert stored(his.apply([done(first, short.id)]))
        assert his.queue_progress(short.id).submitted == 1
        assert {*chats} == {first, *(view.chat.id for view in hers.claim(short.id, 5))}

    def test_orders_and_filters(self, store: Store, queue: Any, ana: Session, ben: Session, mine: Mine) -> None:
        times = {name: f"2026-01-0{k}T00:00:00.000000Z" for k, name in enumerate(("a", "b solar", "c"), 1)}
        a, b, c = (add_chat(store, name, created_at=time) for name, time in times.items())
        for session, score in ((ana, 1), (ben, 5)):
            mine(session).rate(b, step(b, 1), score, "stars")
            mine(session).rate(a, step(a, 1), 3, "stars")
        orders = {
            "oldest": [a, b, c], "fewest": [c, a, b], "disagreement": [b, a, c],
        }  # fmt: skip
        for order, expected in orders.items():
            one = queue(order, item_order=order)
            assert [view.chat.id for view in mine(ana).claim(one.id, 9)] == expected, order
        assert {view.chat.id for view in mine(ana).claim(queue("random", item_order="random").id, 9)} == {a, b, c}
        scored = queue("scored", item_order="uncertain", checkpoint_id="ck")
        store.set_priorities(scored.id, {c: 0.9, a: 0.1})
        assert [view.chat.id for view in mine(ana).claim(scored.id, 9)] == [c, a]
        store.set_priorities(scored.id, {a: 2.0})
        assert [view.chat.id for view in mine(ben).claim(scored.id, 9)] == []
        assert [view.chat.id for view in mine(ana).claim(queue("words", words="SOLAR").id, 9)] == [b]
        assert mine(ana).queue_progress(queue("words", words="SOLAR").id).items == 1
        assert mine(ana).claim(queue("source", source="elsewhere").id, 9) == []

    def test_a_queue_of_listed_chats(self, store: Store, queue: Any, ana: Session, mine: Mine) -> None:
        a, b, c = (add_chat(store, name, 2) for name in "abc")
        listed = queue("listed", listed=True)
        assert listed.listed
        assert mine(ana).claim(listed.id, 9) == []  # nothing is handed out before the list is there
        assert store.set_queue_chats(listed.id, {c: [2, 1], a: [], uid("gone"): []}) == 2
        assert {view.chat.id for view in mine(ana).claim(listed.id, 9)} == {a, c}
        assert store.steps_asked(listed.id, [a, b, c]) == {c: [2, 1]}
        assert mine(ana).queue_progress(listed.id).items == 2
        assert store.set_queue_chats(listed.id, {b: []}) == 1
        assert mine(ana).queue_progress(listed.id).items == 1
        assert [one.listed for one in store.queues() if one.id == listed.id] == [True]
        with pytest.raises(NotFound):
            store.set_queue_chats(uid("nothing"), {a: []})

    def test_what_a_queue_may_hand_out(self, store: Store, queue: Any) -> None:
        a, b, c = (add_chat(store, name, 2) for name in "abc")

        def of(one: Queue, limit: int = 9) -> set[str]:
            return {chat.id for chat in store.chats_of_queue(one.id, limit)}

        assert of(queue("all")) == {a, b, c}
        assert len(of(queue("some"), 2)) == 2
        listed = queue("two", listed=True)
        assert of(listed) == set()
        store.set_queue_chats(listed.id, {c: [], a: [1]})
        assert of(listed) == {a, c}
        assert of(queue("elsewhere", source="elsewhere")) == set()
        assert store.chats_of_queue(uid("nothing"), 9) == []

    def test_many_at_once_and_nothing_is_handed_out_twice(self, store: Store, queue: Any, person: Any, mine: Mine) -> None:
        overlap, three = 2, queue("busy", overlap=2)
        for name in range(24):
            add_chat(store, str(name), steps=1)
        people = [mine(person(f"P{k}")) for k in range(8)]
        handed: list[str] = []
        failures: list[BaseException] = []

        def work(one: UserStore) -> None:
            try:
                while views := one.claim(three.id, 2):
                    for view in views:
                        handed.append(view.chat.id)
                        assert stored(one.apply([rate(view.chat.id, 1, 3), done(view.chat.id, three.id)]))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(one,)) for one in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert Counter(Counter(handed).values()) == {overlap: 24}
        assert store.counts().ratings == 48

    def test_a_chat_deleted_under_somebody(
        self, store: Store, ana: Session, mine: Mine, delete_chat: Callable[[str], None]
    ) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        hers.claim(EVERYTHING, 1)
        op = rate(chat, 1, 3)
        hers.apply([op])
        delete_chat(chat)
        outcomes = hers.apply([op, rate(chat, 2, 3), done(chat)])
        assert [bool(one) for one in outcomes.values()] == [False, True, True]
        assert hers.claim(EVERYTHING, 1) == []
        assert hers.changes(chat) == []

    # my work --------------------------------------------------------------------------------------------------------

    def test_each_change_is_kept(self, store: Store, ana: Session, ben: Session, mine: Mine) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        first = hers.rate(chat, None, 5, "stars")
        second = hers.comment(chat, None, "so")
        hers.comment(chat, None, "so")
        third = hers.rate(chat, None, 2, "thumbs")
        hers.withdraw(chat, None)
        assert hers.changes(chat) == [
            Change(None, 5, "stars", None, first.updated_at, False),
            Change(None, 5, "stars", "so", second.updated_at, False),
            Change(None, 2, "thumbs", "so", third.updated_at, True),
        ] or [one.score for one in hers.changes(chat)] == [5, 5, 2]
        assert mine(ben).changes(chat) == []

    def test_history_is_ones_own_and_comes_in_pages(self, store: Store, ana: Session, ben: Session, mine: Mine) -> None:
        chats = [add_chat(store, name) for name in "abc"]
        hers = mine(ana)
        for k, chat in enumerate(chats, 1):
            hers.rate(chat, None, k, "stars")
        hers.rate(chats[0], step(chats[0], 1), 5, "stars")
        first = hers.history(limit=2)
        assert [(one.chat_id, one.query, one.ratings, one.mean_score) for one in first] == [
            (chats[0], "query a", 2, 3.0), (chats[2], "query c", 1, 3.0),
        ]  # fmt: skip
        assert [one.chat_id for one in hers.history(before=first[-1].last_at)] == [chats[1]]
        assert mine(ben).history() == []

    def test_all_of_mine_can_be_taken_along_and_erased(self, store: Store, ana: Session, ben: Session, mine: Mine) -> None:
        chat, hers, his = add_chat(store, "a"), mine(ana), mine(ben)
        hers.claim(EVERYTHING, 1)
        hers.apply([
            rate(chat, 1, 4), rate(chat, 1, 3), LabelOp(new_id(), "flag", chat, None, {"flag": "unsure"}),
            LabelOp(new_id(), "dwell", chat, step(chat, 1), {"ms": 5}), LabelOp(new_id(), "edit", chat, step(chat, 1)),
            done(chat, kind="skip", noted=False), done(chat),
        ])  # fmt: skip
        his.rate(chat, None, 5, "stars")
        all_of_it = hers.everything()
        assert [one["feedback_score"] for one in all_of_it["feedback"]] == [3]
        assert sorted((one["kind"], one["value"]) for one in all_of_it["events"]) == [("dwell", 5.0), ("edit", None)]
        assert [(one["chat_id"], one["flags"]) for one in all_of_it["marks"]] == [(chat, '["unsure"]')]
        assert hers.erase() == 1
        assert not any(hers.everything().values())
        assert (hers.changes(chat), hers.history(), hers.queue_progress(EVERYTHING).submitted) == ([], [], 0)
        assert len(his.ratings(chat)) == 1
        assert hers.erase() == 0
