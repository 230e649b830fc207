"""The futures of submitted steps, and what stands for futures among the inputs of a step."""

from collections.abc import Callable
from typing import Any, Protocol

from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.states import State

from prefect_executions.steps.identity import Identified
from prefect_executions.steps.replay import Call, Replay


class Submitted(Protocol):
    """A call that was submitted."""

    @property
    def is_identified(self) -> bool:
        """Whether it is identified when it is submitted, and not when its inputs are ready."""
        ...

    @property
    def call(self) -> Call | None:
        """The call, once it is identified."""
        ...

    @property
    def calls(self) -> list[Call]:
        """What is in flight until the flow has the result."""
        ...


class StepFuture(PrefectConcurrentFuture[Any]):
    """The future of a submitted call, which knows when the flow has got the result.

    Args:
        future: The future of the task runner.
        submitted: The call.
        replay: The calls of the attempt.
    """

    def __init__(
        self,
        future: PrefectConcurrentFuture[Any],
        submitted: Submitted,
        replay: Replay,
    ) -> None:
        super().__init__(future.task_run_id, future.wrapped_future)
        self._submitted = submitted
        self._replay = replay

    @property
    def is_identified(self) -> bool:
        """Whether it is identified when it is submitted, and not when its inputs are ready."""
        return self._submitted.is_identified

    def call(self) -> Call | None:
        """The call, when its inputs are ready; None when it will not take place."""
        if not self.is_identified:
            self.wait()
        return self._submitted.call

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """See `PrefectFuture.result`."""
        try:
            result = super().result(timeout, raise_on_failure)
        except Exception:
            if self.wrapped_future.done():  # otherwise the time-out is over
                self._note(self._replay.raised)
            raise
        state = self.wrapped_future.result()
        if isinstance(state, State) and not state.is_completed():
            self._note(self._replay.raised)
        else:
            self._note(self._replay.given)
        return result

    def _note(self, note: Callable[[Call], None]) -> None:
        for call in self._submitted.calls:
            note(call)


def identify(future: PrefectFuture[Any]) -> Any:
    """What stands for the future of a step: its call. Other futures are waited for.

    Equal calls may return different things, so the call's number is part of it.
    """
    if isinstance(future, StepFuture) and (call := future.call()) is not None:
        return Identified(f"{call.key} {call.order}")
    return identify_anywhere(future)


def identify_anywhere(future: PrefectFuture[Any]) -> Any:
    """`identify` for a call with a key of its own, wherever the call stands among others."""
    if isinstance(future, StepFuture) and (call := future.call()) is not None:
        return Identified(call.key)
    future.wait()
    if not future.state.is_completed():  # so the call will not take place, or does not mind
        return Identified(future.state.type.value)
    return future.result()
