"""Programs of steps in transactions, steps and threads that are killed at their writes.

A program that an undisturbed run does not refuse comes to the same wherever it is killed: each call
gets the result of its own work, nothing that is recorded is done again, and nothing is undone that
is recorded as done. `programs` says what a program is, and looks at all of this.
"""

from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from prefect_executions.errors import AmbiguousCall
from prefect_executions.log.journal import Record
from prefect_executions.steps import transactions
from prefect_executions.steps.places import EqualCalls
from prefect_executions.steps.recorder import Recorder
from prefect_executions.steps.records import Records
from programs import Body, Outer, Pay, Threads, Transaction, World, Wrong, expected, works

pytestmark = pytest.mark.long


INPUTS = st.integers(0, 1)
CALLS = st.builds(Pay, INPUTS, st.booleans())


def bodies(nodes: st.SearchStrategy[object]) -> st.SearchStrategy[Body]:
    return st.lists(nodes, min_size=1, max_size=3).map(tuple)  # type: ignore[arg-type]


def around(nodes: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    body = bodies(nodes)
    return st.one_of(
        st.builds(Transaction, st.sampled_from(["flow", None]), body),
        st.builds(Outer, INPUTS, body),
        st.builds(Threads, st.tuples(body, body)),
    )


NODES = st.recursive(CALLS, around, max_leaves=4)
PROGRAMS = bodies(NODES | st.builds(Transaction, st.just("try"), bodies(CALLS)))
DEATHS = st.lists(st.integers(1, 6) | st.integers(-6, -1), max_size=3)

# Each needs a part of the rules.
BOOKS: Body = (Transaction("flow", (Pay(0, True), Pay(1))), Pay(0, True), Pay(1))
INNER: Body = (Transaction("flow", (Outer(0, (Pay(0, True), Pay(1))),)), Outer(0, (Pay(1),)))
TWICE: Body = (Transaction("try", (Pay(0, True), Pay(0, True))), Pay(0, True), Pay(0))
ORDER: Body = (Transaction("try", (Pay(0, True), Pay(1, True), Pay(0, True))),)
LANES: Body = (Threads(((Pay(0), Outer(0, (Pay(1),))), (Transaction("flow", (Pay(1, True),)),))),)
DEADLY: list[list[int]] = [[], [3, 6, 1], [8]]


def is_refused(program: Body, deaths: list[int]) -> bool:
    """Run a program undisturbed, and killed; whether already the undisturbed run is refused.

    Raises:
        Wrong: One of the two comes to something else than it should.
    """
    undisturbed, killed = World([]), World(deaths)
    try:
        _require(undisturbed, program, 0)
    except AmbiguousCall:
        return True
    _require(killed, program, len(deaths))
    if killed.recorded() != undisturbed.recorded():
        raise Wrong(f"recorded are {killed.recorded()}")
    return False


def _require(world: World, program: Body, deaths: int) -> None:
    found = world.run(program)
    if found != expected(program, "0"):
        raise Wrong(f"it has returned {found}")
    for work in works(found):
        # A process that dies before a record is written has had the effect, and one that dies
        # before an undo has not undone it.
        if not 1 <= world.effects[work] <= 1 + deaths:
            raise Wrong(f"{work} is in force {world.effects[work]} times")


@example(BOOKS, [2])
@example(INNER, [3, -2])
@example(TWICE, [1, 1, 1])
@example(ORDER, [3, 6, 1])
@example(LANES, [2, 1])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PROGRAMS, DEATHS)
def test_wherever_a_program_is_killed_nothing_is_wrong_and_nothing_recorded_is_done_again(
    quick: None, program: Body, deaths: list[int]
) -> None:
    is_refused(program, deaths)


# ---------------------------------------------------------------------- each part is needed


def _freed_first(self: EqualCalls) -> int:
    return self.freed[0] if self.freed else self.last + 1


def _take_freed_first(self: EqualCalls) -> None:
    if self.freed:
        self.freed.pop(0)
    else:
        self.last += 1


def without(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a part of the rules out."""
    if part == "what is rolled back is undone in the log":
        monkeypatch.setattr(Recorder, "record_rolled_back", lambda *_: True)
    elif part == "what is around it has not returned":
        monkeypatch.setattr(Records, "reopen", lambda _, record: record)
    elif part == "the first free place comes first":
        monkeypatch.setattr(EqualCalls, "next_place", _freed_first)
        monkeypatch.setattr(EqualCalls, "take_place", _take_freed_first)
    elif part == "without a hook it stays recorded":
        monkeypatch.setattr(transactions, "_has_hooks", lambda _: True)
    else:

        def remove(self: Records, record: Record) -> None:
            del self._known[record.order]
            self.equals(record.parent, record.key).recorded[record.place].remove(record.order)

        monkeypatch.setattr(Records, "remove", remove)


@pytest.mark.parametrize(
    ("part", "program"),
    [
        ("what is rolled back is undone in the log", BOOKS),
        ("what is around it has not returned", INNER),
        ("without a hook it stays recorded", BOOKS),
        ("its place is free again", TWICE),
        ("the first free place comes first", ORDER),
    ],
)
def test_without_a_part_of_the_rules_something_goes_wrong(
    quick: None, part: str, program: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(part, monkeypatch)

    assert any(map(partial(_is_wrong, program), DEADLY))


def _is_wrong(program: Body, deaths: list[int]) -> bool:
    try:
        return is_refused(program, deaths)
    except Wrong:
        return True
