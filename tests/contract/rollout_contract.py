"""What every store must do of roll-outs. Uses the fixtures of :class:`~tests.contract.store_contract.StoreContract`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from rlhf_core.ground.errors import Conflict
from rlhf_core.ground.records import Session
from rlhf_core.ground.rollout import ModelEvent, next_entry, state_of
from rlhf_core.store.base import Store
from tests.contract.store_contract import Mine

Answered = Callable[..., str]


class RolloutContract:
    @pytest.fixture
    def answered(self) -> Answered:
        """Note that a person (a session) got an answer (text) from a checkpoint; returns the chat's id."""
        raise NotImplementedError

    def say(self, store: Store, act: Any, **more: Any) -> ModelEvent:
        event = next_entry("policy", store.rollout.last("policy"), act, who="Kim", reason="a test", **more)
        store.rollout.add(event)
        return event

    def test_what_was_decided_stands_in_order(self, store: Store) -> None:
        assert store.rollout.events("policy") == []
        said = [
            self.say(store, "serve", checkpoint_id="p1"),
            self.say(store, "candidate", checkpoint_id="p2"),
            self.say(store, "canary", share=0.05),
            self.say(store, "share", share=0.25, detail={"rated": {"canary": 3}}),
        ]
        events = store.rollout.events("policy")
        assert [(one.number, one.act, one.checkpoint_id, one.state) for one in events] == [
            (one.number, one.act, one.checkpoint_id, one.state) for one in said
        ]
        assert events[-1].detail == {"rated": {"canary": 3}}
        assert (events[0].reason, events[0].at[:10]) == ("a test", said[0].at[:10])
        assert store.rollout.last("policy") == events[-1]
        state = state_of(events[-1])
        assert (state.serving, state.canary, state.candidate, state.share, state.begun) == ("p1", "p2", None, 0.25, 3)
        assert (store.rollout.events("reward"), store.rollout.last("reward")) == ([], None)

    def test_of_two_who_decide_at_once_the_second_is_refused(self, store: Store) -> None:
        self.say(store, "serve", checkpoint_id="p1")
        last = store.rollout.last("policy")
        two = [next_entry("policy", last, "candidate", who="Kim", reason="r", checkpoint_id=one) for one in ("p2", "p3")]
        together, outcomes = threading.Barrier(2), []

        def add(event: ModelEvent) -> None:
            together.wait()
            try:
                store.rollout.add(event)
                outcomes.append("kept")
            except Conflict as error:
                outcomes.append(str(error))

        threads = [threading.Thread(target=add, args=(one,)) for one in two]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes, key=len)[0] == "kept"
        assert "Somebody else decided something meanwhile" in sorted(outcomes, key=len)[1]
        assert len(store.rollout.events("policy")) == 2

    def test_answers_and_how_they_were_taken(
        self, store: Store, mine: Mine, person: Callable[[str], Session], answered: Answered
    ) -> None:  # fmt: skip
        self.say(store, "serve", checkpoint_id="p1")
        begun = self.say(store, "canary", checkpoint_id="p2").number
        ana, ben = person("Ana"), person("Ben")
        first = answered(ana, "p2", "long answer", begun=begun, refused=False, latency_ms=12.5)
        second = answered(ben, "p1", "short", begun=begun)
        answered(ben, "p1", "before", begun=None)
        answered(ben, "p3", "another", begun=begun)
        served = store.rollout.served(begun, "p2", "p1")
        assert [(one.checkpoint_id, one.user_id, one.rating, one.characters) for one in served] == [
            ("p2", ana.user_id, None, 11), ("p1", ben.user_id, None, 5)
        ]  # fmt: skip
        assert (served[0].refused, served[0].latency_ms, served[1].refused, served[1].latency_ms) == (False, 12.5, None, None)
        mine(ben).rate(second, None, 2, "stars")
        mine(ana).rate(first, None, 5, "stars")
        served = store.rollout.served(begun, "p2", "p1")
        assert {one.checkpoint_id: one.rating for one in served} == {"p1": 2.0, "p2": 5.0}
