"""The steps that are being carried out: an attempt that ends lets them end first."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from prefect_executions.errors import NotAnExecution
from prefect_executions.steps.replay import Call


class InFlight:
    """The calls of steps that are being carried out, in threads, tasks and other processes."""

    def __init__(self) -> None:
        self._changed = Condition()  # guards all that follows
        self._calls: dict[int, tuple[Call, AbstractEventLoop | None]] = {}  # by the ids of calls
        self._not_waited_for: list[Call] = []  # since they wait themselves, or took too long
        self._is_over = False

    @contextmanager
    def carrying_out(self, call: Call, promise: Call | None = None) -> Iterator[None]:
        """Carry out a call.

        Args:
            call: The call.
            promise: What has stood for it since it was submitted, if it waited for its inputs.

        Raises:
            NotAnExecution: See `began`.
        """
        self.began(call, promise)
        try:
            yield
        finally:
            self.ended(call)

    def began(self, call: Call, promise: Call | None = None) -> None:
        """Begin to carry out a call; `ended` ends that.

        Raises:
            NotAnExecution: The flow has ended, and only what calls made before still call begins.
        """
        with self._changed:
            made_before = [*_around(call), *([promise] if promise else [])]
            if self._is_over and not any(id(made) in self._calls for made in made_before):
                raise NotAnExecution(f"the step {call.step!r} begins after its flow has ended")
            self._calls[id(call)] = call, _running_loop()

    def ended(self, call: Call) -> None:
        """A call has ended, and is recorded."""
        with self._changed:
            self._calls.pop(id(call), None)
            self._changed.notify_all()

    def settle(self, patience: float, *, call: Call | None = None) -> list[str]:
        """Wait until the calls that are being carried out have ended.

        Calls on an event loop that this blocks are not waited for, and neither are two calls that
        wait for each other here.

        Args:
            patience: For how many seconds.
            call: What waits, which may be part of other calls. None: the flow has ended.

        Returns:
            The names of the steps that took longer; they are not waited for again.
        """
        own = [call, *_around(call)] if call is not None else []
        with self._changed:
            self._is_over = self._is_over or call is None
            self._not_waited_for += own
            blocked = _running_loop()
            awaited = [
                known for known, loop in self._calls.values() if loop is None or loop is not blocked
            ]
            try:
                self._changed.wait_for(lambda: not self._left(awaited), patience)
                left = self._left(awaited)
            finally:
                for known in own:
                    self._not_waited_for.remove(known)
                self._changed.notify_all()
            self._not_waited_for += left
            return [known.step for known in left]

    def _left(self, awaited: list[Call]) -> list[Call]:
        ignored = {id(known) for known in self._not_waited_for}
        return [call for call in awaited if id(call) in self._calls and id(call) not in ignored]


def _around(call: Call) -> Iterator[Call]:
    around = call.parent
    while around is not None:
        yield around
        around = around.parent


def _running_loop() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
