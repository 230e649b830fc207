"""Calls to a server that may be away."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event
from typing import Any

import pytest

from prefect_executions import circuit as module
from prefect_executions.circuit import Circuit
from world import eventually

SOON = 0.05  # seconds after which a call is given up where it gets no answer
LONG = 60.0


class Away(Exception):
    """The server is away."""


class Lost(Exception):
    """A request was lost."""


class Server:
    """Something that answers, or loses requests, or hangs until it is released."""

    def __init__(self) -> None:
        self.asked = 0
        self.lost = False
        self.free = Event()
        self.free.set()

    def answer(self) -> str:
        self.asked += 1
        if self.lost:
            raise RuntimeError("try again") from Lost()
        assert self.free.wait(LONG)
        return "answer"

    def refuse(self) -> str:
        raise RuntimeError("no") from ValueError()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.free.set()


@pytest.fixture
def circuit_of(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[float], Circuit]]:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    with ExitStack() as stack:

        def make(seconds: float) -> Circuit:
            def ask() -> Any:
                return circuit.call(server.answer, lost=(Lost,))

            circuit = Circuit("the server", seconds, error=Away, ask=ask)
            stack.callback(circuit.close)
            return circuit

        yield make


def test_answers_and_refusals_come_back(
    circuit_of: Callable[[float], Circuit], server: Server
) -> None:
    circuit = circuit_of(LONG)

    assert circuit.call(server.answer) == "answer"
    with pytest.raises(RuntimeError, match="no"):
        circuit.call(server.refuse, lost=(Lost,))
    assert not circuit.is_away


def test_a_call_without_an_answer_is_given_up_and_no_other_is_made(
    circuit_of: Callable[[float], Circuit], server: Server
) -> None:
    circuit = circuit_of(SOON)
    server.free.clear()

    with pytest.raises(Away, match="no answer"):
        circuit.call(server.answer)
    assert circuit.is_away
    called: list[int] = []
    for _ in range(3):
        with pytest.raises(Away, match="it is away"):
            circuit.call(lambda: called.append(1))

    assert called == []
    eventually(lambda: server.asked == 2, "the server is asked beside the calls")


def test_it_notices_that_the_server_is_back(
    circuit_of: Callable[[float], Circuit], server: Server
) -> None:
    circuit = circuit_of(LONG)
    server.lost = True
    with pytest.raises(RuntimeError, match="try again"):
        circuit.call(server.answer, lost=(Lost,))
    assert circuit.is_away

    asked = server.asked
    eventually(lambda: server.asked > asked + 3, "it is asked again and again")
    server.lost = False

    eventually(lambda: not circuit.is_away, "it is back")
    assert circuit.call(server.answer) == "answer"


def test_a_late_answer_is_none(circuit_of: Callable[[float], Circuit], server: Server) -> None:
    """A server that answers all too late would otherwise come back with each answer."""
    circuit = circuit_of(SOON)
    server.lost = True  # for all but the late one
    late, answered = Event(), Event()

    def hang() -> None:
        late.wait(LONG)
        answered.set()

    with pytest.raises(Away, match="no answer"):
        circuit.call(hang)
    late.set()
    assert answered.wait(LONG)
    asked = server.asked
    eventually(lambda: server.asked > asked + 3, "it is asked again and again")

    assert circuit.is_away


def test_one_call_that_hangs_does_not_make_a_server_away_that_answers_others(
    circuit_of: Callable[[float], Circuit], server: Server
) -> None:
    circuit = circuit_of(1.0)
    hanging = Event()

    def hang() -> None:
        assert circuit.call(server.answer) == "answer"
        hanging.wait(LONG)

    with pytest.raises(Away, match="no answer"):
        circuit.call(hang)
    hanging.set()

    assert not circuit.is_away
    assert circuit.call(server.answer) == "answer"


def test_a_refresh_waits_for_nothing_and_asks_only_what_is_not_known(
    circuit_of: Callable[[float], Circuit], server: Server
) -> None:
    circuit = circuit_of(LONG)
    server.free.clear()

    for _ in range(3):
        circuit.refresh()
    eventually(lambda: server.asked, "it is asked")
    assert not circuit.is_away

    server.free.set()
    circuit.call(server.answer)
    asked = server.asked
    circuit.refresh()
    assert asked == 2
    assert circuit.call(server.answer) == "answer"
    assert server.asked == 3, "it was heard just now"


def test_calls_that_hang_leave_the_threads_to_others(
    circuit_of: Callable[[float], Circuit], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALLS", 1)
    circuit = circuit_of(1.0)
    hangs = Event()
    with pytest.raises(Away):
        circuit.call(lambda: hangs.wait(LONG))
    eventually(lambda: not circuit.is_away, "it is back")

    assert circuit.call(server.answer) == "answer"
    hangs.set()
