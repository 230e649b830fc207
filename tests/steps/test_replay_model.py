"""Programs that are killed at every point: no call gets a result that another call has made.

A program is written as a flow's author would write it. Each of its calls says to the model which
piece of work it stands for; `Replay` does not see that. The model runs the program undisturbed,
and then kills it at each event, as often as twice, and lets it continue from its newest checkpoint.
Where the undisturbed run is not refused, every call has to get a result of its own work, and work
whose record is durable is not done again.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import orjson
import pytest

from prefect_executions.errors import AmbiguousCall
from prefect_executions.log.journal import Outcome, Record, decode, encode
from prefect_executions.steps.places import EqualCalls
from prefect_executions.steps.records import Records
from prefect_executions.steps.replay import Call, Replay

State = dict[str, Any]


class Killed(BaseException):
    """The process dies."""


class Left(BaseException):
    """The process ends for a question."""


class Failed(Exception):
    """A call raises."""


class Wrong(AssertionError):
    """A call got the result of other work, or recorded work was done again."""


class World:
    """What is durable, and what has happened outside."""

    def __init__(self, kills: tuple[int, ...], order: int = 0) -> None:
        self.journal: list[Record] = []
        self.saved: tuple[bytes, int] = (b"{}", 0)  # the state, and how many records it came after
        self.done: dict[str, int] = {}  # how often each piece of work was done
        self.answers: dict[str, str] = {}
        self.kills = list(kills)
        self.order = order
        self.flaky: dict[str, int] = {}

    def run(self, program: Callable[["Process"], None]) -> None:
        """Run the program to its end, in as many attempts as it takes."""
        for _ in range(50):
            process = Process(self, self.kills.pop(0) if self.kills else -1)
            try:
                with process.replay.flow():
                    program(process)
            except (Killed, Left):
                continue
            return
        raise Wrong("it does not end")


class Submitted:
    """A call in flight: it ends when the process says so."""

    def __init__(self, process: "Process", call: Call, work: str) -> None:
        self.process, self.call, self.work = process, call, work
        self.value: str | None = None

    def end(self) -> None:
        if self.value is None:
            self.value = self.process.carry_out(self.call, self.work)

    def result(self) -> str:
        self.end()
        self.process.replay.given(self.call)
        assert self.value is not None
        return self.process.check(self.value, self.work)


class Process:
    """One attempt of a program."""

    def __init__(self, world: World, dies_at: int) -> None:
        self.world = world
        self.left = dies_at
        self.replay = Replay(decode(encode(world.journal)), world.saved[0])
        self.state: State = orjson.loads(world.saved[0])

    def event(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def check(self, value: str, work: str) -> str:
        if value != work:
            raise Wrong(f"{work} got the result of {value}")
        return value

    def carry_out(self, call: Call, work: str) -> str:
        with self.replay.running(call) as known:
            if known is not None and known.outcome is Outcome.DONE:
                return str(orjson.loads(known.result or b"null"))
            self.event()
            if self.world.flaky.get(work, 0) > 0:
                self.world.flaky[work] -= 1
                self.world.journal += self.replay.ended(call, Outcome.BEGUN)
                raise Failed(work)
            durable = {record.result for record in self.world.journal}
            if orjson.dumps(work) in durable:
                raise Wrong(f"{work} was done again")
            self.world.done[work] = self.world.done.get(work, 0) + 1
            records = self.replay.ended(call, Outcome.DONE, result=orjson.dumps(work))
            self.event()
            self.world.journal += records
        return work

    def call(self, step: str, work: str, *inputs: object, key: str | None = None) -> str:
        """A direct call of a step."""
        call = self.begin(step, inputs, key)
        try:
            value = self.carry_out(call, work)
        except Failed:
            self.replay.raised(call)
            raise
        self.replay.given(call, in_turn=True)
        return self.check(value, work)

    def begin(self, step: str, inputs: tuple[object, ...], key: str | None) -> Call:
        identity = f"{step} key {key}" if key else f"{step} {inputs!r}"
        return self.replay.begin(step, identity, is_keyed=key is not None)

    def submit(self, step: str, work: str, *inputs: object, key: str | None = None) -> Submitted:
        """A call that ends when its result is asked for, or earlier."""
        return Submitted(self, self.begin(step, inputs, key), work)

    def as_completed(self, calls: list[Submitted]) -> Iterator[Submitted]:
        """The calls in an order that differs from attempt to attempt."""
        self.world.order += 1
        turned = self.world.order % max(len(calls), 1)
        for call in [*calls[turned:], *calls[:turned]]:
            call.end()
            yield call

    def checkpoint(self) -> None:
        data = orjson.dumps(self.state)
        self.replay.saved(data)
        self.event()
        self.world.saved = (data, len(self.world.journal))

    def ask(self, work: str, prompt: str, key: str | None = None) -> str:
        """A question, answered with the name of what it is about."""
        identity = f"ask key {key}" if key else f"ask {prompt}"
        data = orjson.dumps(self.state)
        call = self.replay.begin("ask", identity, is_keyed=key is not None, state=data)
        with self.replay.running(call) as known:
            if known is not None and known.outcome is Outcome.DONE:
                answer = str(orjson.loads(known.result or b"null"))
            else:
                if known is None:
                    self.replay.saved(data)
                    pause = f"{len(self.world.answers)} {work}"
                    records = self.replay.ended(call, Outcome.WAITING, pause_key=pause)
                    self.event()
                    self.world.journal += records
                    self.world.saved = (data, len(self.world.journal))
                    self.world.answers[pause] = work
                    raise Left
                answer = self.world.answers[known.pause_key or ""]
                records = self.replay.ended(
                    call, Outcome.DONE, result=orjson.dumps(answer), pause_key=known.pause_key
                )
                self.event()
                self.world.journal += records
        self.replay.given(call)
        return self.check(answer, work)


# ---------------------------------------------------------------------- programs


def different_in_any_order(p: Process) -> None:
    for future in p.as_completed([p.submit("read", f"read {n}", n) for n in range(3)]):
        p.call("charge", f"charge {future.result()}", future.result())


def tries(p: Process) -> None:
    while True:
        try:
            p.call("draw", "draw")
            break
        except Failed:
            continue
    p.call("after", "after")
    p.call("draw", "draw again")


def tries_by_submit(p: Process) -> None:
    while True:
        call = p.submit("draw", "draw")
        try:
            call.result()
            break
        except Failed:
            p.replay.raised(call.call)
    p.call("after", "after")


def skips_by_state(p: Process) -> None:
    while len(p.state.setdefault("done", [])) < 3:
        n = len(p.state["done"])
        p.state["done"].append(p.call("draw", f"draw {n}"))
        p.checkpoint()


def skips_with_inputs(p: Process) -> None:
    plan = p.call("plan", "plan")
    while len(p.state.setdefault("done", [])) < 3:
        n = len(p.state["done"])
        p.state["done"].append(p.call("draw", f"draw {n}", n, plan))
        p.checkpoint()


def skips_with_keys(p: Process) -> None:
    while len(p.state.setdefault("done", [])) < 3:
        n = len(p.state["done"])
        p.state["done"].append(p.call("draw", f"draw {n}", key=f"draw-{n}"))
        p.checkpoint()


def from_the_top(p: Process) -> None:
    for n in range(3):
        p.call("poll", f"poll {n}")
        p.call("use", f"use {n}", n)


def from_the_top_with_progress(p: Process) -> None:
    plan = p.call("plan", "plan")
    for n in range(3):
        p.call("use", f"use {n}", n, plan)
        p.state["n"] = n
        p.checkpoint()
    p.call("report", "report")


def equal_at_once(p: Process) -> None:
    calls = [p.submit("sample", f"sample {n}") for n in range(3)]
    for call in p.as_completed(calls):
        p.call("use", f"use {calls.index(call)} {call.result()}", calls.index(call))


def equal_at_once_and_skips(p: Process) -> None:
    missing = range(len(p.state.setdefault("done", [])), 3)
    for call in p.as_completed([p.submit("sample", f"sample {n}") for n in missing]):
        p.state["done"].append(call.result())
        p.checkpoint()


def tokens(p: Process) -> None:
    for call in p.as_completed([p.submit("read", f"read {n}", n) for n in range(2)]):
        read = call.result()
        p.call("send", f"send {read}", read, p.call("token", f"token of {read}"))


def beside_a_slow_one(p: Process) -> None:
    slow = p.submit("slow", "slow")
    for n in range(3):
        p.call("poll", f"poll {n}")
    slow.result()
    p.call("poll", "the last poll")


def asks_in_a_loop(p: Process) -> None:
    decided = p.state.setdefault("decided", [])
    for order in ["one", "two", "three"]:
        if order not in decided:
            p.ask(f"may ship {order}", "Ship the next order?")
            decided.append(order)


def asks_with_keys(p: Process) -> None:
    decided = p.state.setdefault("decided", [])
    for order in ["one", "two", "three"]:
        if order not in decided:
            p.ask(f"may ship {order}", "Ship the next order?", key=order)
            p.call("ship", f"ship {order}", order)
            decided.append(order)


def asks_from_the_top(p: Process) -> None:
    for order in ["one", "two"]:
        p.ask(f"may ship {order}", "Ship the next order?")
        p.call("ship", f"ship {order}", order)


def pauses_in_each_round(p: Process) -> None:
    while len(p.state.setdefault("done", [])) < 3:
        n = len(p.state["done"])
        p.state["done"].append(p.call("work", f"work {n}", n))
        p.ask(f"look at {n}", "A look?")


PROGRAMS = [
    different_in_any_order,
    tries,
    tries_by_submit,
    skips_by_state,
    skips_with_inputs,
    skips_with_keys,
    from_the_top,
    from_the_top_with_progress,
    equal_at_once,
    equal_at_once_and_skips,
    tokens,
    beside_a_slow_one,
    asks_in_a_loop,
    asks_with_keys,
    asks_from_the_top,
    pauses_in_each_round,
]
REFUSED = {skips_by_state, equal_at_once_and_skips, tokens, asks_in_a_loop, pauses_in_each_round}


def outcome(program: Callable[[Process], None], *kills: int, order: int = 0) -> str:
    world = World(kills, order)
    world.flaky = {"draw": 2}
    try:
        world.run(program)
    except AmbiguousCall:
        return "refused"
    return "right"


def wrong_ones(program: Callable[[Process], None]) -> list[tuple[int, ...]]:
    """The kills after which something was wrong."""
    found = []
    for kills in [(), *((n,) for n in range(25)), *product(range(0, 25, 2), range(0, 25, 3))]:
        for order in range(3):
            try:
                outcome(program, *kills, order=order)
            except Wrong:
                found.append(kills)
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_what_is_refused_is_refused_in_the_first_ordinary_run(
    program: Callable[[Process], None],
) -> None:
    expected = "refused" if program in REFUSED else "right"

    assert {outcome(program, order=order) for order in range(3)} == {expected}


@pytest.mark.parametrize(
    "program", [each for each in PROGRAMS if each not in REFUSED], ids=lambda each: each.__name__
)
def test_wherever_an_accepted_program_is_killed_nothing_is_wrong_and_nothing_done_twice(
    program: Callable[[Process], None],
) -> None:
    assert wrong_ones(program) == []


# ---------------------------------------------------------------------- each part is needed


def without(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a part of the rule out."""
    if part == "places":
        monkeypatch.setattr(EqualCalls, "next_place", lambda _: 1)
    elif part == "a raised call frees its place":
        monkeypatch.setattr(Replay, "raised", Replay.given)
    elif part == "done before begun":

        def first(self: Records, equal: EqualCalls, place: int) -> Record | None:
            orders = sorted(equal.recorded.get(place, ()))
            return next((self.of(o) for o in orders if o not in equal.taken), None)

        monkeypatch.setattr(Records, "in_place", first)
    elif part == "equal calls of another state are refused":
        monkeypatch.setattr(EqualCalls, "has_other_state", lambda *_: False)
    elif part == "a state between equal results is refused":

        def saved(self: Replay, state: bytes) -> None:
            self._state, self._under = state, None

        monkeypatch.setattr(Replay, "saved", saved)
    elif part == "turns are refused":
        monkeypatch.setattr(EqualCalls, "has_turned", lambda *_: False)
    else:
        monkeypatch.setattr(Replay, "_require_clear", lambda *_: None)


@pytest.mark.parametrize(
    ("part", "program"),
    [
        ("places", equal_at_once),
        ("a raised call frees its place", tries),
        ("done before begun", tries),
        ("equal calls of another state are refused", skips_by_state),
        ("a state between equal results is refused", equal_at_once_and_skips),
        ("turns are refused", tokens),
        ("questions of another state are refused", pauses_in_each_round),
    ],
)
def test_without_a_part_of_the_rule_something_goes_wrong(
    part: str, program: Callable[[Process], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program in REFUSED or wrong_ones(program) == []

    without(part, monkeypatch)

    assert wrong_ones(program)


def test_the_journal_of_a_program_is_decoded_as_it_was_written() -> None:
    world = World(())
    world.run(from_the_top)

    assert list(decode(encode(world.journal)).values()) == world.journal
