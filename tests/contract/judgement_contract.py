"""What every store must do for judgement that can be trusted: preferences, rubrics, rewrites, known answers, disputes, hints."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from rlhf_core.ground.errors import InvalidInput, NotFound, ScreeningFailed
from rlhf_core.ground.judgement import Aspect, Decision, GoldAnswer, GoldPlace
from rlhf_core.ground.records import EVERY_PAIR, EVERYTHING, LabelOp, Preference, Session, new_id
from rlhf_core.store.base import Store, UserStore
from tests.contract.labelling_contract import done, rate, stored
from tests.contract.store_contract import NOW, Mine, add_chat, step, uid

ASPECTS = (
    Aspect("factual", "Is it true?", "answer", {1: "made up", 5: "checked"}),
    Aspect("safe", "Could it hurt somebody?", "step"),
)


def add_answers(store: Store, query: str, *answers: str, steps: int = 2) -> list[str]:
    """Several answers to one question; their ids in ascending order."""
    ids = sorted(uid("answer", query, answer) for answer in answers)
    by_id = {uid("answer", query, answer): answer for answer in answers}
    with store.bulk() as (writer, _):
        writer.add_chats([(one, query, by_id[one], "test", None, None, NOW) for one in ids])
        writer.add_steps([(step(one, k), one, f"{by_id[one]} {k}", k, NOW) for one in ids for k in range(1, steps + 1)])
    return ids


def prefer(pair: list[str], verdict: Any, strength: Any = None, **more: Any) -> LabelOp:
    value = {"other": pair[1], "verdict": verdict, "strength": strength, "left": pair[1]} | more
    return LabelOp(new_id(), "prefer", pair[0], None, value)


def aspect(chat: str, name: str, score: Any, version: int, step_id: str | None = None, queue: str = EVERYTHING) -> LabelOp:
    return LabelOp(new_id(), "aspect", chat, step_id, {"queue": queue, "version": version, "aspect": name, "score": score})


class JudgementContract:
    @pytest.fixture
    def keeper(self) -> UserStore:
        """The store as somebody uses it who keeps queues and settles disputes."""
        raise NotImplementedError

    # preferences ----------------------------------------------------------------------------------------------------

    def test_two_answers_to_one_question_are_handed_out_as_a_pair(
        self, store: Store, ana: Session, ben: Session, mine: Mine
    ) -> None:
        three = add_answers(store, "q1", "x", "y", "z")
        add_chat(store, "alone")
        add_answers(store, "q2", "same")
        hers, his = mine(ana), mine(ben)
        pairs = [(view.chat.id, view.other.id if view.other else None) for view in hers.claim(EVERY_PAIR, 9)]
        assert sorted(pairs) == [(three[0], three[1]), (three[0], three[2]), (three[1], three[2])]
        assert his.claim(EVERY_PAIR, 9) == []
        assert [view.other for view in hers.claim(EVERYTHING, 9)] == [None] * 5
        first = hers.claim(EVERY_PAIR, 1)[0]
        assert first.other is not None
        pair = [first.chat.id, first.other.id]
        assert stored(hers.apply([prefer(pair, "other", 3), done(pair[0], EVERY_PAIR, other=pair[1])]))
        progress = hers.queue_progress(EVERY_PAIR)
        assert (progress.submitted, progress.items, progress.finished) == (1, 3, 1)
        assert pair[0] in {view.chat.id for view in hers.claim(EVERYTHING, 9)}, "a pair that is done leaves its chats alone"

    def test_preferences_are_kept_in_full(self, store: Store, queue: Any, ana: Session, mine: Mine) -> None:
        pair, hers = add_answers(store, "q", "x", "y"), mine(ana)
        ops = [
            prefer(pair, "chat", 1), prefer(pair, "other", 2, comment=" it cites "), prefer(pair, "tie", step=1),
            prefer(pair, "both_bad", step=2), prefer(pair, "chat", 3, aspect="factual"),
        ]  # fmt: skip
        assert stored(hers.apply(ops))
        assert hers.claim(EVERY_PAIR, 1)[0].preferences == {
            (None, ""): Preference("other", 2, "it cites"), (1, ""): Preference("tie"), (2, ""): Preference("both_bad"),
            (None, "factual"): Preference("chat", 3),
        }  # fmt: skip
        assert stored(hers.apply([prefer(pair, None, step=2)]))
        kept = hers.everything()["preferences"]
        assert Counter((one["chat_id"], one["other_id"], one["step_order"], one["verdict"]) for one in kept) == {
            (pair[0], pair[1], None, "other"): 1, (pair[0], pair[1], 1, "tie"): 1, (pair[0], pair[1], None, "chat"): 1,
        }  # fmt: skip

    def test_what_is_no_preference_is_refused(self, store: Store, ana: Session, mine: Mine) -> None:
        pair, alone, hers = add_answers(store, "q", "x", "y"), add_chat(store, "alone"), mine(ana)
        bad = [
            prefer(pair, "better"), prefer(pair, "tie", 2), prefer(pair, "chat", 4), prefer(pair, "chat", step=0),
            prefer(pair[::-1], "chat", 1), prefer(sorted([pair[0], alone]), "chat", 1), prefer([pair[0], pair[0]], "chat"),
            prefer(pair, "chat", 1, left=alone), prefer([pair[0], uid("nowhere")], "tie"),
            prefer(pair, "tie", comment="x" * 9000),
            done(pair[0], EVERY_PAIR, other=alone),
        ]  # fmt: skip
        outcomes = hers.apply(bad)
        assert all(len(one) > 20 for one in outcomes.values()), outcomes
        assert hers.everything()["preferences"] == []

    def test_a_file_brings_preferences_and_aspects(self, store: Store, ana: Session, mine: Mine) -> None:
        pair, who = add_answers(store, "q", "x", "y"), uid("somebody in a file")
        preference = (uid("p"), *pair, None, "", who, "chat", 2, None, "why", NOW, NOW)
        rated = (uid("a"), pair[0], None, who, None, None, "fluency", 4, NOW, NOW)
        for known in (0, 2):
            with store.bulk() as (writer, counts):
                writer.add_profiles([(who, "Somebody")], "imported")
                writer.add_preferences([preference])
                writer.add_aspect_ratings([rated])
            assert (counts.ratings, counts.known_ratings) == (2 - known, known)
        with store.export() as export:
            (kept,) = [row for batch in export.rows("preferences") for row in batch]
            (aspect_row,) = [row for batch in export.rows("aspect_ratings") for row in batch]
        assert kept == preference
        assert aspect_row == rated
        assert mine(ana).view(*pair).preferences == {}
        with pytest.raises(NotFound):
            mine(ana).view(*sorted([pair[0], add_chat(store, "alone")]))
        assert stored(mine(ana).apply([prefer(pair, "tie")]))
        (chosen,) = mine(ana).chosen()
        assert (chosen.chat_id, chosen.other_id, chosen.query, chosen.verdict) == (*pair, "q", "tie")

    # rubrics --------------------------------------------------------------------------------------------------------

    def test_a_rubric_has_versions(self, store: Store, queue: Any) -> None:
        one = queue("rubric")
        assert store.rubric(one.id) is None
        first = store.save_rubric(one.id, ASPECTS)
        assert (first.version, first.aspects) == (1, ASPECTS)
        assert store.save_rubric(one.id, list(ASPECTS)) == first, "the same again is no new version"
        second = store.save_rubric(one.id, [*ASPECTS, Aspect("kind", "Is it kind?")])
        assert (second.version, len(second.aspects)) == (2, 3)
        assert store.rubric(one.id) == second
        assert store.save_rubric(one.id, []).version == 3
        for wrong in (
            [Aspect("", "what?")], [Aspect("a", "")], [Aspect("a", "q"), Aspect("A", "q")],
            [Aspect("a", "q", "answer", {6: "x"})],
            [Aspect(f"a{k}", "q") for k in range(13)], [Aspect("a<b>", "q")], [Aspect("a", "q", "chat")],  # type: ignore[arg-type]
        ):  # fmt: skip
            with pytest.raises(InvalidInput):
                store.save_rubric(one.id, wrong)
        with pytest.raises(NotFound):
            store.save_rubric(uid("no queue"), ASPECTS)

    def test_aspects_are_rated_under_the_version_that_was_seen(self, store: Store, ana: Session, mine: Mine) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        store.save_rubric(EVERYTHING, ASPECTS)
        safe = step(chat, 1)
        assert stored(
            hers.apply([aspect(chat, "factual", 4, 1), aspect(chat, "safe", 1, 1, safe), aspect(chat, "factual", 2, 1)])
        )
        store.save_rubric(EVERYTHING, ASPECTS[:1])  # in the middle of the work
        assert stored(hers.apply([aspect(chat, "safe", 3, 1, safe)])), "who still sees the old rubric is not stopped"
        assert hers.view(chat).aspects == {(None, "factual"): 2, (safe, "safe"): 3}
        outcomes = hers.apply([
            aspect(chat, "safe", 3, 2, safe), aspect(chat, "nonsense", 3, 1), aspect(chat, "factual", 6, 1),
            aspect(chat, "factual", 3, 9), aspect(chat, "factual", 3, 1, step(uid("other"), 1)),
        ])  # fmt: skip
        assert all(outcomes.values())
        assert stored(hers.apply([aspect(chat, "safe", None, 1, safe), aspect(chat, "factual", 5, 2)]))
        assert [(one["aspect"], one["score"], one["rubric_version"]) for one in hers.everything()["aspect_ratings"]] == [
            ("factual", 5, 2)
        ]
        assert hers.view(chat).ratings == {}, "an aspect is no score"

    # rewrites -------------------------------------------------------------------------------------------------------

    def test_a_rewrite_is_a_pair_and_step_ratings(
        self, store: Store, keeper: UserStore, ana: Session, ben: Session, mine: Mine
    ) -> None:
        chat = uid("chat with words")
        with store.bulk() as (writer, _):
            writer.add_chats([(chat, "q", "1. first\n2. second\n3. third", "test", None, None, NOW)])
            writer.add_steps([(step(chat, k), chat, text, k, NOW) for k, text in enumerate(("first", "second", "third"), 1)])
        hers = mine(ana)
        op = LabelOp(new_id(), "rewrite", chat, step(chat, 2), {"text": " better \n"})
        assert stored(hers.apply([op, op]))
        assert hers.view(chat).rewrites == {step(chat, 2): "better"}
        (made,) = [one for one in store.search_chats() if one.source == "rewrite"]
        new = store.chat(made.id)
        assert (new.query, new.response, new.owner_id) == ("q", "1. first\n\nbetter", ana.user_id)
        assert [one.step_content for one in new.steps] == ["first", "better"]
        assert {key: one.feedback_score for key, one in hers.ratings(chat).items()} == {step(chat, 2): 1}
        assert {key: one.feedback_score for key, one in hers.ratings(new.id).items()} == {new.steps[1].id: 5}
        (kept,) = hers.everything()["preferences"]
        better = kept["chat_id"] if kept["verdict"] == "chat" else kept["other_id"]
        assert (better, kept["step_order"], {kept["chat_id"], kept["other_id"]}) == (new.id, 2, {chat, new.id})
        assert [view.chat.id for view in mine(ben).claim(EVERYTHING, 9)] == [chat], "it is not handed out by itself"

        assert stored(hers.apply([LabelOp(new_id(), "rewrite", chat, step(chat, 2), {"text": "best"})]))
        assert [store.chat(one.id).steps[1].step_content for one in store.search_chats() if one.source == "rewrite"] == ["best"]
        (made,) = [one for one in store.search_chats() if one.source == "rewrite"]
        keeper.rate(made.id, None, 4, "stars")
        assert stored(hers.apply([LabelOp(new_id(), "rewrite", chat, step(chat, 2), {"text": ""})]))
        assert hers.view(chat).rewrites == {}
        assert store.chat(made.id).id == made.id, "what somebody else has judged stays"
        bad = [
            LabelOp(new_id(), "rewrite", chat, None, {"text": "x"}), LabelOp(new_id(), "rewrite", chat, uid("no"), {"text": "x"}),
            LabelOp(new_id(), "rewrite", chat, step(chat, 1), {"text": "x" * 100_001}),
            LabelOp(new_id(), "rewrite", chat, step(chat, 1), {"text": "a\x00b"}),
        ]  # fmt: skip
        assert all(hers.apply(bad).values())

    def test_a_rewrite_of_the_first_step_and_of_steps_that_the_answer_only_sums_up(
        self, store: Store, ana: Session, mine: Mine
    ) -> None:
        chat, hers = add_chat(store, "a", steps=3), mine(ana)
        assert stored(hers.apply([LabelOp(new_id(), "rewrite", chat, step(chat, k), {"text": f"new {k}"}) for k in (1, 3)]))
        made = sorted(one.response for one in store.search_chats() if one.source == "rewrite")
        assert made == ["new 1", "step 1\n\nstep 2\n\nnew 3"]

    # known answers --------------------------------------------------------------------------------------------------

    def test_known_answers_are_kept(self, store: Store, keeper: UserStore, ana: Session, mine: Mine) -> None:
        chat, pair = add_chat(store, "a"), add_answers(store, "q", "x", "y")
        answer = GoldAnswer({step(chat, 1): 5, None: 2}, step(chat, 2))
        first = keeper.save_gold(chat, answer, " because ")
        second = keeper.save_gold(pair[0], GoldAnswer(verdict="tie"), other_id=pair[1])
        one, two = store.gold()
        assert (one.id, one.answer, one.explanation, one.query, one.given, one.share) == (
            first,
            answer,
            "because",
            "query a",
            0,
            None,
        )
        assert (two.id, two.other_id, two.answer.verdict) == (second, pair[1], "tie")
        assert keeper.save_gold(chat, GoldAnswer(first_error=""), "now") == first
        assert (store.gold()[0].answer, len(store.gold())) == (GoldAnswer(first_error=""), 2)
        for wrong, other in (
            (GoldAnswer(), None), (GoldAnswer({None: 6}), None), (GoldAnswer(verdict="tie"), None),
            (GoldAnswer({None: 3}), pair[1]),
        ):  # fmt: skip
            with pytest.raises(InvalidInput):
                keeper.save_gold(pair[0], wrong, other_id=other)
        with pytest.raises(NotFound):
            keeper.save_gold(chat, GoldAnswer({step(pair[0], 1): 5}))
        with pytest.raises(NotFound):
            keeper.save_gold(uid("no"), GoldAnswer({None: 5}))
        assert (store.remove_gold(first), store.remove_gold(first), len(store.gold())) == (True, False, 1)

    def test_an_answer_is_compared_when_it_is_submitted_and_told_then(
        self, store: Store, keeper: UserStore, queue: Any, ana: Session, ben: Session, mine: Mine
    ) -> None:
        chat, golden, hers, his = add_chat(store, "a", steps=3), queue("gold", gold_rate=0.5), mine(ana), mine(ben)
        keeper.save_gold(chat, GoldAnswer({step(chat, 1): 5, step(chat, 2): 1, None: 3}, step(chat, 2)), "The second is wrong.")
        while not hers.claim(golden.id, 1):  # one of two claims is a known answer
            pass
        assert stored(hers.apply([rate(chat, 1, 4), rate(chat, 2, 3), rate(chat, 3, 1), rate(chat, None, 3)]))
        assert hers.after(golden.id, chat) is None, "nothing is told before it is submitted"
        assert stored(hers.apply([done(chat, golden.id)]))
        told = hers.after(golden.id, chat)
        assert told is not None
        assert told.explanation == "The second is wrong."
        assert {one.place: (one.known, one.given, one.same) for one in told.places} == {
            step(chat, 1): ("5", "4", True), step(chat, 2): ("1", "3", False), "": ("3", "3", True),
            "first_error": (step(chat, 2), step(chat, 3), False),
        }  # fmt: skip
        assert stored(
            hers.apply([rate(chat, 2, 1), LabelOp(new_id(), "first_error", chat, step(chat, 2)), done(chat, golden.id)])
        )
        assert hers.after(golden.id, chat) == told, "what one changes after having been told does not count"
        (result,) = hers.everything()["gold_results"]
        assert (result["asked"], result["matched"]) == (4, 2)
        assert (store.gold()[0].given, store.gold()[0].share) == (1, 0.5)
        assert his.after(golden.id, chat) is None
        assert store.gold()[0].answer.first_error == step(chat, 2)

    def test_everybody_gets_known_answers_whatever_the_overlap(
        self, store: Store, keeper: UserStore, queue: Any, person: Any, mine: Mine
    ) -> None:
        known = add_chat(store, "known")
        for name in range(12):
            add_chat(store, str(name), steps=1)
        golden = queue("gold", gold_rate=0.5)
        people = [mine(person(name)) for name in ("Ana", "Ben", "Cai")]
        keeper.save_gold(known, GoldAnswer({None: 5}))
        handed: list[str] = []
        for one in people:
            for _ in range(20):
                for view in one.claim(golden.id, 1):
                    handed.append(view.chat.id)
                    assert stored(one.apply([rate(view.chat.id, None, 5), done(view.chat.id, golden.id)]))
        counts = Counter(handed)
        assert counts.pop(known) == 3
        assert set(counts.values()) == {1}, "the others go to as many as the overlap says"

    def test_pairs_with_a_known_answer(self, store: Store, keeper: UserStore, queue: Any, ana: Session, mine: Mine) -> None:
        pair, hers = add_answers(store, "q", "x", "y"), mine(ana)
        golden = queue("gold pairs", task="choose", screening=1)
        keeper.save_gold(pair[0], GoldAnswer(verdict="chat"), "It is longer.", other_id=pair[1])
        (view,) = hers.claim(golden.id, 3)
        assert view.other is not None
        assert (view.chat.id, view.other.id) == tuple(pair)
        assert stored(hers.apply([prefer(pair, "chat", 1), done(pair[0], golden.id, other=pair[1])]))
        told = hers.after(golden.id, pair[0], pair[1])
        assert told is not None
        assert (told.places, told.explanation) == ((GoldPlace("verdict", "chat", "chat", True),), "It is longer.")

    def test_screening_comes_before_first_work(
        self, store: Store, keeper: UserStore, queue: Any, ana: Session, ben: Session, mine: Mine
    ) -> None:
        known = [add_chat(store, f"known {k}", steps=1) for k in range(4)]
        work = [add_chat(store, f"work {k}", steps=1) for k in range(3)]
        strict = queue("strict", screening=2, screening_pass=0.6, overlap=3)
        hers, his = mine(ana), mine(ben)
        for chat in known:
            keeper.save_gold(chat, GoldAnswer({None: 5}))
        first = [view.chat.id for view in hers.claim(strict.id, 3)]
        assert len(first) == 2
        assert set(first) < set(known), "known answers only, as many as the screening takes"
        assert [view.chat.id for view in hers.claim(strict.id, 3)] == first
        for chat, score in zip(first, (5, 4), strict=True):
            assert stored(hers.apply([rate(chat, None, score), done(chat, strict.id)]))
        assert {view.chat.id for view in hers.claim(strict.id, 9)} == set(work)

        for view in his.claim(strict.id, 3):
            assert stored(his.apply([rate(view.chat.id, None, 1), done(view.chat.id, strict.id)]))
        with pytest.raises(ScreeningFailed, match="right on 0% of them; it takes 60%"):
            his.claim(strict.id, 3)
        results = {one.display_name: (one.answered, one.share) for one in store.screenings(strict)}
        assert results == {"Ana": (2, 1.0), "Ben": (2, 0.0)}
        store.forget_screening(strict.id, ben.user_id)
        again = [view.chat.id for view in his.claim(strict.id, 3)]
        assert len(again) == 2
        assert set(again) < set(known)

    def test_a_screening_with_too_few_known_answers_lets_people_work(
        self, store: Store, keeper: UserStore, queue: Any, ana: Session, mine: Mine
    ) -> None:
        known, work, hers = add_chat(store, "known"), add_chat(store, "work"), mine(ana)
        strict = queue("strict", screening=5)
        assert {view.chat.id for view in hers.claim(strict.id, 9)} == {known, work}, "there is none at all"
        hers.release(strict.id)
        keeper.save_gold(known, GoldAnswer({None: 5}))
        assert [view.chat.id for view in hers.claim(strict.id, 9)] == [known]
        assert stored(hers.apply([rate(known, None, 5), done(known, strict.id)]))
        assert [view.chat.id for view in hers.claim(strict.id, 9)] == [work]

    # hints ----------------------------------------------------------------------------------------------------------

    def test_a_hint_comes_after_submitting_and_what_was_said_before_is_kept(
        self, store: Store, queue: Any, ana: Session, mine: Mine
    ) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        hinted = queue("hinted", hint_checkpoint="ck")
        store.set_hints(hinted.id, "ck", {chat: {step(chat, 1): 1.5, "": 4.25}})
        assert stored(hers.apply([rate(chat, 1, 5), rate(chat, 2, 4)]))
        assert hers.after(hinted.id, chat) is None
        assert stored(hers.apply([done(chat, hinted.id)]))
        told = hers.after(hinted.id, chat)
        assert told is not None
        assert (told.checkpoint_id, dict(told.rewards), told.places) == ("ck", {step(chat, 1): 1.5}, ()), (
            "what one has judged only"
        )
        hers.rate(chat, step(chat, 1), 2, "stars")
        assert hers.after(hinted.id, chat) is not None
        with store.export() as export:
            rows = [row for batch in export.rows("hints_shown") for row in batch]
        assert [(row[1], row[3], row[5], row[6], row[7]) for row in rows] == [(chat, step(chat, 1), "ck", 1.5, "5")]
        queue("hinted", hint_checkpoint="another")
        assert hers.after(hinted.id, chat) is None, "the rewards are another checkpoint's"

    def test_a_hint_on_a_pair(self, store: Store, queue: Any, ana: Session, mine: Mine) -> None:
        pair, hers = add_answers(store, "q", "x", "y"), mine(ana)
        hinted = queue("hinted pairs", task="choose", hint_checkpoint="ck")
        store.set_hints(hinted.id, "ck", {pair[0]: {"": 2.0}})
        assert stored(hers.apply([prefer(pair, "chat", 1), done(pair[0], hinted.id, other=pair[1])]))
        assert hers.after(hinted.id, *pair) is None, "one reward compares nothing"
        store.set_hints(hinted.id, "ck", {pair[0]: {"": 2.0}, pair[1]: {"": 3.5}})
        told = hers.after(hinted.id, *pair)
        assert told is not None
        assert dict(told.rewards) == {pair[0]: 2.0, pair[1]: 3.5}
        with store.export() as export:
            rows = [row for batch in export.rows("hints_shown") for row in batch]
        assert [(row[1], row[2], row[6], row[7]) for row in rows] == [(pair[0], pair[1], -1.5, "chat")]

    # disputes -------------------------------------------------------------------------------------------------------

    def test_disputes_are_found_settled_and_listed_last(self, store: Store, keeper: UserStore, person: Any, mine: Mine) -> None:
        one, calm, stops = (add_chat(store, name, steps=3) for name in ("one", "calm", "stops"))
        pair = add_answers(store, "q", "x", "y")
        ana, ben, cai = (mine(person(name)) for name in ("Ana", "Ben", "Cai"))
        for who, score in ((ana, 5), (ben, 2), (cai, 4)):
            who.rate(one, step(one, 1), score, "stars")
        for who, score in ((ana, 4), (ben, 5)):
            who.rate(calm, step(calm, 1), score, "stars")
            who.rate(stops, step(stops, 1), score, "stars")
        assert stored(ben.apply([LabelOp(new_id(), "first_error", stops, step(stops, 3))]))
        assert stored(ana.apply([prefer(pair, "chat", 1)]))
        assert stored(ben.apply([prefer(pair, "other", 3, comment="shorter")]))
        found = {(dispute.chat_id, dispute.other_id): dispute for dispute in store.disputes()}
        assert set(found) == {(one, None), (stops, None), (pair[0], pair[1])}
        assert (found[one, None].raters, found[one, None].spread, found[one, None].stops, found[one, None].decided) == (
            3,
            3,
            2,
            0,
        )
        assert (found[stops, None].spread, found[stops, None].stops) == (1, 2)
        assert found[pair[0], pair[1]].verdicts == 2
        assert [found[place].open for place in ((one, None), (stops, None), (pair[0], pair[1]))] == [2, 1, 1]
        assert len(store.disputes(limit=1)) == 1

        assert Counter((word.kind, word.value) for word in store.judgements(one)) == {
            ("score", "5"): 1, ("score", "2"): 1, ("score", "4"): 1,
        }  # fmt: skip
        words = store.judgements(*pair)
        assert sorted((word.value, word.comment or "") for word in words) == [("chat 1", ""), ("other 3", "shorter")]
        assert any(word.kind == "first_error" and word.place == step(stops, 3) for word in store.judgements(stops))

        decision = Decision(new_id(), one, None, step(one, 1), "score", "2", " Ben is right. ")
        saved = keeper.decide(decision)
        assert (saved.reason, saved.value, bool(saved.decided_at)) == ("Ben is right.", "2", True)
        keeper.decide(Decision(new_id(), stops, None, None, "first_error", step(stops, 3), "he is"))
        keeper.decide(Decision(new_id(), pair[0], pair[1], None, "preference", "tie", "both are fine"))
        keeper.decide(Decision(new_id(), one, None, step(one, 1), "score", "3", "On a second look."))
        assert [(word.value, word.reason) for word in store.decisions(one)] == [("3", "On a second look.")]
        assert all(dispute.decided == 1 for dispute in store.disputes())
        assert (store.disputes()[0].chat_id, store.disputes()[0].open) == (one, 1), "one of its two places is decided"
        assert sorted(dispute.open for dispute in store.disputes()) == [0, 0, 1]
        assert store.mean_scores(one) == {step(one, 1): (3.0, 3)}, "the decision counts, not the mean"
        assert keeper.undecide(decision)
        assert not keeper.undecide(decision)
        assert store.disputes()[0].chat_id == one
        with store.export() as export:
            rows = [row for batch in export.rows("decisions") for row in batch]
        assert sorted(row[4:6] for row in rows) == [("first_error", step(stops, 3)), ("preference", "tie")]

    def test_what_is_no_decision_is_refused(self, store: Store, keeper: UserStore, ana: Session, mine: Mine) -> None:
        chat, pair = add_chat(store, "a"), add_answers(store, "q", "x", "y")
        for wrong in (
            Decision(new_id(), chat, None, None, "score", "4", " "), Decision(new_id(), chat, None, None, "score", "6", "x"),
            Decision(new_id(), chat, None, None, "preference", "tie", "x"), Decision(new_id(), *pair, None, "score", "3", "x"),
            Decision(new_id(), *pair, None, "preference", "better", "x"),
            Decision(new_id(), chat, None, None, "score", "4", "x" * 9000),
        ):  # fmt: skip
            with pytest.raises(InvalidInput):
                keeper.decide(wrong)
        for missing in (
            Decision(new_id(), uid("no"), None, None, "score", "4", "x"),
            Decision(new_id(), chat, None, step(pair[0], 1), "score", "4", "x"),
            Decision(new_id(), chat, None, None, "first_error", step(pair[0], 1), "x"),
            Decision(new_id(), *sorted([chat, pair[0]]), None, "preference", "tie", "x"),
        ):  # fmt: skip
            with pytest.raises(NotFound):
                keeper.decide(missing)
        assert store.decisions(chat) == []

    # leaving --------------------------------------------------------------------------------------------------------

    def test_who_is_erased_takes_all_of_it_along(
        self, store: Store, keeper: UserStore, queue: Any, ana: Session, ben: Session, mine: Mine
    ) -> None:
        chat, pair, hers, his = add_chat(store, "a"), add_answers(store, "q", "x", "y"), mine(ana), mine(ben)
        golden = queue("gold", gold_rate=0.5, hint_checkpoint="ck")
        store.save_rubric(golden.id, ASPECTS)
        store.set_hints(golden.id, "ck", {chat: {"": 3.0}})
        keeper.save_gold(chat, GoldAnswer({None: 5}))
        while chat not in [view.chat.id for view in hers.claim(golden.id, 9)]:
            hers.release(golden.id)
        assert stored(hers.apply([
            rate(chat, None, 1), aspect(chat, "factual", 3, 1, queue=golden.id), prefer(pair, "tie"), done(chat, golden.id),
            LabelOp(new_id(), "rewrite", chat, step(chat, 1), {"text": "mine"}),
        ]))  # fmt: skip
        his.rate(chat, None, 5, "stars")
        hers.after(golden.id, chat)
        assert len(store.disputes()) == 1
        assert hers.erase() == 4  # the answer, the step, the aspect, one of two preferences: the other went with her rewrite
        assert not any(hers.everything().values())
        assert [one for one in store.search_chats() if one.source == "rewrite"] == []
        assert store.disputes() == []
        assert (store.gold()[0].given, store.screenings(golden)) == (0, [])
        with store.export() as export:
            for table in ("preferences", "aspect_ratings", "gold_results", "hints_shown", "assignments"):
                assert [row for batch in export.rows(table) for row in batch] == [], table  # type: ignore[arg-type]
            assert len([row for batch in export.rows("chat_feedback") for row in batch]) == 1

    def test_many_are_screened_at_once(self, store: Store, keeper: UserStore, queue: Any, person: Any, mine: Mine) -> None:
        for name in range(3):
            keeper.save_gold(add_chat(store, f"known {name}", steps=1), GoldAnswer({None: 5}))
        for name in range(6):
            add_chat(store, f"work {name}", steps=1)
        strict = queue("strict", screening=3, overlap=1)
        people = [mine(person(f"P{k}")) for k in range(4)]
        failures: list[BaseException] = []
        handed: list[str] = []

        def work(one: Any) -> None:
            try:
                while views := one.claim(strict.id, 2):
                    for view in views:
                        handed.append(view.chat.query)
                        assert stored(one.apply([rate(view.chat.id, None, 5), done(view.chat.id, strict.id)]))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(one,)) for one in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert {query: n for query, n in Counter(handed).items() if "known" in query} == {f"query known {k}": 4 for k in range(3)}
        assert {query: n for query, n in Counter(handed).items() if "work" in query} == {f"query work {k}": 1 for k in range(6)}

    # ways around it -------------------------------------------------------------------------------------------------

    def test_known_answers_are_told_only_where_they_are_asked_and_handed_out(
        self, store: Store, keeper: UserStore, queue: Any, ana: Session, mine: Mine
    ) -> None:
        known, hers = add_chat(store, "known"), mine(ana)
        add_chat(store, "work")
        golden = queue("gold", screening=1, screening_pass=1.0)
        keeper.save_gold(known, GoldAnswer({None: 5}), "secret")
        hers.claim(EVERYTHING, 9)
        assert stored(hers.apply([done(known)])), "a queue without known answers treats it as any other"
        assert hers.after(EVERYTHING, known) is None
        assert hers.everything()["gold_results"] == []
        refused = hers.apply([done(known, golden.id), done(known, golden.id, "skip")])
        assert all(refused.values()), "it was not handed out there"
        assert hers.after(golden.id, known) is None

    def test_a_screening_is_not_passed_by_skipping_or_erasing(
        self, store: Store, keeper: UserStore, queue: Any, ana: Session, mine: Mine
    ) -> None:
        hers = mine(ana)
        for name in range(4):
            keeper.save_gold(add_chat(store, f"known {name}"), GoldAnswer({None: 5}))
        work = add_chat(store, "work")
        strict = queue("strict", screening=2, screening_pass=0.6)
        handed = [view.chat.id for view in hers.claim(strict.id, 9)]
        assert stored(hers.apply([rate(handed[0], None, 5), done(handed[0], strict.id), done(handed[1], strict.id, "skip")]))
        with pytest.raises(ScreeningFailed, match="right on 50%"):
            hers.claim(strict.id, 9)
        assert hers.apply([done(work, strict.id)]) != {}, "nor is work taken that was not handed out"
        assert hers.queue_progress(strict.id).submitted == 1
        hers.erase()
        with pytest.raises(ScreeningFailed):
            hers.claim(strict.id, 9)
        store.forget_screening(strict.id, ana.user_id)
        again = [view.chat.id for view in hers.claim(strict.id, 9)]
        assert len(again) == 2
        assert not set(again) & set(handed), "others than those whose answers were told, while there are some"
        for chat in again:
            assert stored(hers.apply([rate(chat, None, 4), done(chat, strict.id)]))
        assert work in [view.chat.id for view in hers.claim(strict.id, 9)]

    def test_silence_matches_nothing(self, store: Store, keeper: UserStore, queue: Any, ana: Session, mine: Mine) -> None:
        chat, hers, golden = add_chat(store, "a"), mine(ana), queue("gold", screening=1)
        keeper.save_gold(chat, GoldAnswer(first_error=""))
        hers.claim(golden.id, 1)
        assert stored(hers.apply([LabelOp(new_id(), "flag", chat, None, {"flag": "unsure"}), done(chat, golden.id)]))
        told = hers.after(golden.id, chat)
        assert told is not None
        assert [one.same for one in told.places] == [False]

    def test_a_hint_on_what_one_has_not_judged_is_not_told(self, store: Store, queue: Any, ana: Session, mine: Mine) -> None:
        chat, hers, hinted = add_chat(store, "a"), mine(ana), queue("hinted", hint_checkpoint="ck")
        store.set_hints(hinted.id, "ck", {chat: {step(chat, 1): 1.5, "": 4.0}})
        assert stored(hers.apply([LabelOp(new_id(), "flag", chat, None, {"flag": "unsure"}), done(chat, hinted.id)]))
        assert hers.after(hinted.id, chat) is None

    def test_a_rewrite_that_others_have_judged_stays_until_its_author_leaves(
        self, store: Store, keeper: UserStore, ana: Session, mine: Mine
    ) -> None:
        chat, hers = add_chat(store, "a"), mine(ana)
        store.save_rubric(EVERYTHING, ASPECTS)
        again = lambda text: hers.apply([LabelOp(new_id(), "rewrite", chat, step(chat, 1), {"text": text})])  # noqa: E731
        assert stored(again("secret words"))
        (made,) = [one for one in store.search_chats() if one.source == "rewrite"]
        assert stored(keeper.apply([aspect(made.id, "factual", 2, 1)]))
        assert stored(again("other words"))
        assert len(keeper.everything()["aspect_ratings"]) == 1
        assert {one.response for one in store.search_chats() if one.source == "rewrite"} == {"secret words", "other words"}
        hers.erase()
        assert [one for one in store.search_chats() if one.source == "rewrite"] == []

    def test_a_dispute_about_marks_alone(self, store: Store, person: Any, mine: Mine) -> None:
        chat = add_chat(store, "a", steps=3)
        for name, k in (("Ana", 1), ("Ben", 3)):
            assert stored(mine(person(name)).apply([LabelOp(new_id(), "first_error", chat, step(chat, k))]))
        (dispute,) = store.disputes()
        assert (dispute.chat_id, dispute.stops, dispute.raters) == (chat, 2, 2)

    def test_what_no_page_sends_stops_nothing(self, store: Store, ana: Session, mine: Mine) -> None:
        pair, hers = add_answers(store, "q", "x", "y"), mine(ana)
        good = rate(pair[0], 1, 4)
        bad = [
            done(pair[1], EVERY_PAIR, other=pair[0]), done(pair[0], EVERY_PAIR, other="no id"), prefer(pair, "tie", step=2**70),
            prefer(pair, "tie", aspect=["a"]), aspect(pair[0], "factual", 3, 2**70), aspect(pair[0], {"a": 1}, 3, 1),  # type: ignore[arg-type]
            LabelOp(new_id(), "prefer", pair[0], None, {"verdict": "tie"}),
        ]  # fmt: skip
        outcomes = hers.apply([*bad, good])
        assert outcomes.pop(good.id) == ""
        assert all(outcomes.values())
        assert len(hers.ratings(pair[0])) == 1
