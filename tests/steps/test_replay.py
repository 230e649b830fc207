"""Which recorded call belongs to a call: `Replay` alone, without Prefect and without a log."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_executions.errors import AmbiguousCall, ReplayMismatch
from prefect_executions.log.journal import Outcome, Record, decode, encode, rolled_back
from prefect_executions.steps.replay import Call, Replay

START = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def flow() -> Iterator[None]:
    with Replay({}).flow():
        yield


def recorded(
    order: int,
    key: str,
    *,
    parent: int = 0,
    place: int = 1,
    under: str = "",
    outcome: Outcome = Outcome.DONE,
    undo: bool = False,
) -> Record:
    return Record(
        order=order,
        parent=parent,
        place=place,
        under=under,
        key=key,
        step=f"step {key}",
        at=START + timedelta(minutes=order),
        outcome=outcome,
        undo=undo,
        result=b'"result of %d"' % order if outcome is Outcome.DONE else None,
    )


def replay(*records: Record) -> Replay:
    return Replay(decode(encode(records)))


def begin(of: Replay, key: str, *, inputs: str | None = None, is_keyed: bool = False) -> Call:
    return of.begin(f"step {key}", key, inputs=inputs, is_keyed=is_keyed)


def order_of(of: Replay, key: str) -> int | None:
    """The order of the record of a call that returns at once, or None when the call is new."""
    call = begin(of, key)
    of.given(call)
    return call.record.order if call.record else None


# ---------------------------------------------------------------------- what is found


def test_equal_calls_take_their_places_and_others_do_not_matter() -> None:
    again = replay(recorded(1, "a"), recorded(2, "b"), recorded(3, "a", place=2))

    assert [order_of(again, "a") for _ in range(3)] == [1, 3, None]


def test_a_new_call_has_a_number_that_no_other_has() -> None:
    again = replay(recorded(1, "a"), recorded(7, "b", outcome=Outcome.BEGUN))

    calls = [begin(again, key) for key in ("c", "a", "c")]

    assert [call.order for call in calls] == [8, 1, 9]


def test_a_call_that_had_begun_keeps_its_number_and_has_no_result() -> None:
    done = recorded(2, "a", place=2)
    again = replay(recorded(1, "a", outcome=Outcome.BEGUN), done)

    first, second = begin(again, "a"), begin(again, "a")

    assert (first.order, first.record) == (1, None)
    assert (second.order, second.record) == (2, done)


def test_a_call_that_waits_comes_back() -> None:
    waiting = recorded(1, "a", outcome=Outcome.WAITING)

    assert begin(replay(waiting), "a").record == waiting


def test_in_another_call_it_is_another() -> None:
    again = replay(
        recorded(1, "outer", outcome=Outcome.BEGUN),
        recorded(2, "inner", parent=1),
        recorded(3, "other", outcome=Outcome.BEGUN),
    )

    assert begin(again, "inner").record is None
    with again.running(begin(again, "other")):
        assert begin(again, "inner").record is None
    with again.running(begin(again, "outer")):
        assert begin(again, "inner").record == recorded(2, "inner", parent=1)


def test_a_call_that_is_tried_again_finds_what_it_had_called() -> None:
    now = replay()
    outer = begin(now, "outer")
    with now.running(outer):
        now.ended(begin(now, "inner"), Outcome.DONE, result=b"1")
        failed = begin(now, "inner")
    for _ in range(2):
        with now.running(outer):
            first, second = begin(now, "inner"), begin(now, "inner")
            assert first.record is not None
            assert second.record is None
            assert second.order > failed.order


# ---------------------------------------------------------------------- keys


def test_a_call_with_a_key_is_the_same_wherever_it_occurs() -> None:
    again = replay(
        recorded(1, "k", parent=9), recorded(9, "outer", outcome=Outcome.BEGUN), recorded(10, "z")
    )
    assert order_of(again, "z") == 10

    for _ in range(2):
        call = begin(again, "k", is_keyed=True)
        assert call.record == recorded(1, "k", parent=9)
        again.given(call)


def test_of_the_tries_of_a_keyed_call_the_one_that_returned_holds() -> None:
    now = replay()
    failed, done = (begin(now, "k", is_keyed=True) for _ in range(2))
    records = [
        *now.ended(failed, Outcome.BEGUN),
        *now.ended(done, Outcome.DONE, result=b"1"),
    ]

    for at in (now, replay(*records)):
        call = begin(at, "k", is_keyed=True)
        assert call.record is not None
        assert call.record.order == done.order


def test_a_keyed_call_sees_what_another_has_returned_since_it_began() -> None:
    now = replay()
    first, second = (begin(now, "k", is_keyed=True) for _ in range(2))
    now.ended(first, Outcome.DONE, result=b"1")

    with now.running(second) as known:
        assert known is not None
        assert known.order == first.order


@pytest.mark.parametrize(
    ("then", "now", "fits"),
    [("x", "x", True), ("x", "y", False), (None, "y", True), ("x", None, True)],
)
def test_a_key_goes_with_its_inputs(then: str | None, now: str | None, fits: bool) -> None:
    again = replay(replace(recorded(1, "k"), inputs=then))
    if fits:
        assert begin(again, "k", inputs=now, is_keyed=True).record is not None
        return
    with pytest.raises(ReplayMismatch, match=r"'step k' can't be replayed: .* other inputs"):
        begin(again, "k", inputs=now, is_keyed=True)


def test_a_key_is_one_steps() -> None:
    with pytest.raises(ReplayMismatch, match=r"'other' .* recorded call of 'step k'"):
        replay(recorded(1, "k")).begin("other", "k", is_keyed=True)


def test_a_keyed_call_is_not_carried_out_twice_at_once() -> None:
    now = replay()
    first, second = (begin(now, "k", is_keyed=True) for _ in range(2))
    with (
        now.running(first),
        pytest.raises(ReplayMismatch, match="twice at once"),
        now.running(second),
    ):
        pass
    with now.running(second) as known:  # the refused call has not released the first call's key
        assert known is None


def test_calls_without_a_key_may_be_carried_out_at_once() -> None:
    now = replay()
    with now.running(begin(now, "a")), now.running(begin(now, "a")):
        pass


# ---------------------------------------------------------------------- what is recorded


def test_a_record_says_when_it_ended_where_and_what_of() -> None:
    now = replay()
    call = begin(now, "a", inputs="digest")
    before = datetime.now(UTC) - timedelta(milliseconds=1)

    (record,) = now.ended(call, Outcome.DONE, result=b"1", undo=True)

    assert (record.order, record.parent, record.key, record.step) == (1, 0, "a", "step a")
    assert (record.inputs, record.result, record.undo) == ("digest", b"1", True)
    assert before <= record.at <= datetime.now(UTC)
    assert record == Record.from_line(record.to_line())  # a journal has milliseconds


def test_around_what_has_ended_all_has_begun_which_is_said_once() -> None:
    now = replay()
    with now.running(begin(now, "a")), now.running(begin(now, "b")):
        calls = [begin(now, "c"), begin(now, "d")]
        first, second = (now.ended(call, Outcome.DONE, result=b"1") for call in calls)

    assert [(r.order, r.parent, r.outcome.value) for r in first] == [
        (1, 0, "begun"),
        (2, 1, "begun"),
        (3, 2, "done"),
    ]
    assert [r.order for r in second] == [4]


def test_what_the_journal_tells_has_begun_is_not_said_again() -> None:
    again = replay(recorded(1, "a", outcome=Outcome.BEGUN))
    with again.running(begin(again, "a")):
        assert len(again.ended(begin(again, "b"), Outcome.DONE, result=b"1")) == 1


def test_a_failure_is_said_once_and_keeps_the_place() -> None:
    now = replay()
    call = begin(now, "a")

    records = [*now.ended(call, Outcome.BEGUN), *now.ended(call, Outcome.BEGUN)]
    done = now.ended(begin(now, "b"), Outcome.DONE, result=b"1")

    assert [record.outcome for record in records] == [Outcome.BEGUN]
    again = replay(*records, *done)
    assert begin(again, "a").order == call.order
    assert order_of(again, "b") == 2


def test_what_has_returned_has_not_only_begun() -> None:
    """It failed because the store failed, but its record may have been written."""
    now = replay()
    call = begin(now, "a")
    done = now.ended(call, Outcome.DONE, result=b"1")
    while datetime.now(UTC) - done[0].at < timedelta(milliseconds=2):
        pass  # so that the next record has another time

    assert now.ended(call, Outcome.BEGUN) == []
    assert now.ended(call, Outcome.DONE, result=b"1") == done


def test_what_was_recorded_before_is_not_new() -> None:
    again = replay(recorded(1, "k"))
    old, new = again.begin("step k", "k"), again.begin("step k", "k")
    (record,) = again.ended(new, Outcome.DONE, result=b"1")

    assert old.record is not None
    assert not again.records.is_new(old.record)
    assert again.records.is_new(record)


# ---------------------------------------------------------------------- equal calls


def test_a_call_that_raises_gives_its_place_to_the_next_equal_one() -> None:
    now = replay()
    first = begin(now, "a")
    tried = now.ended(first, Outcome.BEGUN)
    now.raised(first)
    second = begin(now, "a")
    done = now.ended(second, Outcome.DONE, result=b"1")
    now.given(second)
    assert (first.place, second.place) == (1, 1)
    assert begin(now, "a").place == 2

    again = replay(*tried, *done)

    assert order_of(again, "a") == second.order


def test_a_try_that_another_attempt_begins_again_is_not_begun_twice() -> None:
    again = replay(recorded(1, "a", outcome=Outcome.BEGUN))
    first = begin(again, "a")
    again.raised(first)

    assert (first.order, begin(again, "a").order) == (1, 2)


def test_an_equal_call_after_the_state_has_changed_is_refused() -> None:
    now = Replay({}, b"{}")
    now.given(begin(now, "a"))
    now.saved(b"{}")
    now.given(begin(now, "a"))

    now.saved(b'{"n":1}')

    with pytest.raises(AmbiguousCall, match="'step a' could be mistaken"):
        begin(now, "a")
    begin(now, "b")
    now.begin("step a", "a", is_keyed=True)


def test_a_call_that_raised_refuses_no_other() -> None:
    now = Replay({}, b"{}")
    now.raised(begin(now, "a"))
    now.saved(b'{"n":1}')

    begin(now, "a")


def test_a_recorded_equal_call_of_another_state_refuses_a_new_one() -> None:
    before = Replay({}, b"{}")
    records = before.ended(begin(before, "a"), Outcome.DONE, result=b"1")
    now = Replay(decode(encode(records)), b'{"n":1}')

    assert order_of(now, "a") == 1
    with pytest.raises(AmbiguousCall):
        begin(now, "a")


def test_equal_calls_in_different_ones_are_not_equal() -> None:
    now = Replay({}, b"{}")
    for outer in "xy":
        with now.running(begin(now, outer)):
            now.given(begin(now, "a"))
        now.saved(outer.encode())


def test_a_state_is_not_saved_between_the_results_of_equal_calls() -> None:
    now = Replay({}, b"{}")
    first, second = begin(now, "a"), begin(now, "a")
    now.saved(b'{"n":1}')  # none has returned
    now.given(first)
    now.saved(b'{"n":1}')  # it is the same

    with pytest.raises(AmbiguousCall, match="some have returned"):
        now.saved(b'{"n":2}')
    now.given(second)
    now.saved(b'{"n":2}')


def test_different_calls_may_be_saved_between() -> None:
    now = Replay({}, b"{}")
    calls = [begin(now, key) for key in "abc"]
    for n, call in enumerate(calls):
        now.given(call)
        now.saved(b"%d" % n)


def test_equal_calls_whose_turn_depends_on_which_other_ends_first_are_refused() -> None:
    now = replay()
    reads = [begin(now, key) for key in "xyz"]
    now.given(reads[1])
    now.given(begin(now, "token"))
    now.given(reads[0])

    with pytest.raises(AmbiguousCall, match="in another order"):
        begin(now, "token")


def test_equal_calls_beside_a_call_in_flight_are_in_their_order() -> None:
    now = replay()
    slow = begin(now, "x")
    for _ in range(3):
        now.given(begin(now, "token"), in_turn=True)
    now.given(slow)

    begin(now, "token")


def test_a_question_waits_for_an_answer_with_the_state_that_it_saved() -> None:
    before = Replay({}, b"{}")
    call = before.begin("ask", "q", state=b'{"n":1}')
    records = before.ended(call, Outcome.WAITING, pause_key="p")

    now = Replay(decode(encode(records)), b'{"n":1}')
    with pytest.raises(AmbiguousCall, match="under another state"):
        now.begin("ask", "q", state=b'{"n":2}')
    assert now.begin("ask", "q", state=b'{"n":1}').record == records[0]


def test_an_execution_that_raised_is_the_same_when_it_is_called_again_under_any_state() -> None:
    now = Replay({}, b"{}")
    call = now.begin("flow", "f")
    (record,) = now.ended(call, Outcome.WAITING, child="exec_1")
    now.raised(call)
    now.saved(b'{"n":1}')

    again = now.begin("flow", "f")
    assert (again.order, again.place, again.record) == (1, 1, record)
    later = Replay(decode(encode([record])), b'{"n":1}')
    assert later.begin("flow", "f").record == record


# ---------------------------------------------------------------------- undoing


def rolled() -> list[Record]:
    """Five calls, rolled back to the first; two of the others can be undone, one is the last."""
    all_ = [recorded(n, key, undo=key in "ce") for n, key in enumerate("abcde", 1)]
    return list(decode(rolled_back(encode(all_), encode(all_[:1]))).values())


def test_what_is_to_be_undone_comes_newest_first_and_is_not_found() -> None:
    again = replay(*rolled())

    assert [(r.order, r.key, r.outcome) for r in again.records.to_undo] == [
        (5, "e", Outcome.UNDO),
        (3, "c", Outcome.UNDO),
    ]
    calls = [begin(again, key) for key in "abcde"]
    assert [call.record is None for call in calls] == [False, True, True, True, True]
    assert min(call.order for call in calls[1:]) > 1


def test_what_an_undo_calls_is_no_call_of_the_flow() -> None:
    """This holds even when another call gets the number of the undone one."""
    again = replay(*rolled())
    written = []
    for record in again.records.to_undo:
        with again.undoing(record):
            call = begin(again, "same")
            assert call.record is None
            with again.running(call):
                pass
            written += again.ended(call, Outcome.DONE, result=b'"undone"')
            again.given(call)

    assert order_of(again, "same") is None
    calls = [begin(again, key) for key in "bcde"]
    for call in calls:
        assert call.record is None
        with again.running(call):
            assert begin(again, "same").record is None
        written += again.ended(call, Outcome.DONE, result=b"1")
    assert {record.outcome for record in written} == {Outcome.DONE}
    orders = [record.order for record in written]
    assert len(orders) == len(set(orders))


def test_what_an_undo_has_called_is_not_called_again_after_a_crash() -> None:
    once = replay(*rolled())
    with once.undoing(once.records.to_undo[0]):
        written = once.ended(begin(once, "refund"), Outcome.DONE, result=b"1")

    again = replay(*rolled(), *written)

    first, second = again.records.to_undo
    with again.undoing(first):
        assert begin(again, "refund").record == written[0]
    with again.undoing(second):
        assert begin(again, "refund").record is None
    another = replay(*rolled(), *written)
    with another.undoing(second):
        assert begin(another, "refund").record is None
    assert begin(another, "refund").record is None


# ---------------------------------------------------------------------- any program


class Crash(Exception):
    """The process dies."""


@dataclass(frozen=True)
class Node:
    """A call in a program, with the calls that it makes and the attempts in which it fails.

    Args:
        key: One of few, so that many calls are equal.
        inner: What it calls.
        at_once: Whether it begins all inner calls before it runs them.
        fails_in: The attempts in which it raises; its caller ignores that.
    """

    key: str
    inner: "tuple[Node, ...]" = ()
    at_once: bool = False
    fails_in: frozenset[int] = frozenset()


NODES = st.recursive(
    st.builds(Node, st.sampled_from("ab"), fails_in=st.frozensets(st.integers(1, 2), max_size=1)),
    lambda inner: st.builds(
        Node,
        st.sampled_from("ab"),
        st.lists(inner, max_size=4).map(tuple),
        st.booleans(),
        st.frozensets(st.integers(1, 2), max_size=1),
    ),
    max_leaves=12,
)


@dataclass
class Process:
    """Runs a program in one attempt after the other."""

    random: Random
    journal: list[Record] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)
    attempt: int = 0
    left: int = 0  # how many records may be written before the process dies

    def run(self, program: Node, most: int) -> None:
        self.attempt += 1
        self.left = most
        self.replay = Replay(decode(encode(self.journal)))
        with self.replay.flow():
            self.call_all(program, "")

    def write(self, records: list[Record]) -> None:
        """Write as the log's writer does: records of begun calls are not written alone."""
        self.waiting.extend(records)
        if any(record.outcome is not Outcome.BEGUN for record in records):
            if not self.left:
                raise Crash
            self.left -= 1
            self.journal += self.waiting
            self.waiting = []

    waiting: list[Record] = field(default_factory=list)

    def call_all(self, node: Node, path: str) -> None:
        inner = [(child, f"{path}/{n}{child.key}") for n, child in enumerate(node.inner)]
        if not node.at_once:
            for child, at in inner:
                self.carry_out(child, at, self.begin(child.key), is_awaited=True)
            return
        # Equal calls that are made at once can't be distinguished, and need not be.
        begun = [(child, at, self.begin(at[-2:])) for child, at in inner]
        contexts = [copy_context() for _ in begun]
        for n in self.random.sample(range(len(begun)), len(begun)):
            contexts[n].run(self.carry_out, *begun[n], is_awaited=False)

    def begin(self, key: str) -> Call:
        return self.replay.begin(f"step {key}", key)

    def carry_out(self, node: Node, path: str, call: Call, *, is_awaited: bool) -> None:
        with self.replay.running(call) as known:
            if known is not None:
                assert orjson.loads(known.result or b"") == path
            else:
                self.call_all(node, path)
                if self.attempt in node.fails_in:
                    self.write(self.replay.ended(call, Outcome.BEGUN))
                    return
                self.effects[path] += 1
                self.write(self.replay.ended(call, Outcome.DONE, result=orjson.dumps(path)))
        if is_awaited:
            self.replay.given(call)


@given(NODES, st.lists(st.integers(0, 6), max_size=4), st.randoms(use_true_random=False))
def test_whatever_crashes_each_call_gets_its_own_result_and_nothing_recorded_runs_again(
    program: Node, crashes: list[int], random: Random
) -> None:
    process = Process(random)
    for most in crashes:
        process.waiting = []
        done = {r.result for r in decode(encode(process.journal)).values() if r.result}
        before = process.effects.copy()
        with suppress(Crash):
            process.run(program, most)
        again = process.effects - before
        assert not [path for path in again if orjson.dumps(path) in done]
    process.waiting, process.attempt = [], 3
    process.run(program, 1000)

    in_flight = len(crashes)  # each crash loses one record at most
    assert sum(process.effects.values()) <= len(process.effects) + in_flight
    orders = [r.order for r in process.journal if r.outcome is Outcome.DONE]
    assert len(orders) == len(set(orders))
