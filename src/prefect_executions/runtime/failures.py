"""What an attempt has failed by: an error, a group of them, or states that the flow returns."""

import asyncio
from collections.abc import Iterator
from typing import Any

from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import CancelledRun, FailedRun, MissingResult, Pause
from prefect.futures import resolve_futures_to_states
from prefect.logging import get_run_logger
from prefect.states import StateGroup, aget_state_exception, is_state_iterable
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_executions.config import Status
from prefect_executions.errors import (
    CorruptEntry,
    DurationExceeded,
    EffectRefused,
    InputError,
    NotAnExecution,
    ReplayMismatch,
    StateError,
    UnsuitableStore,
)
from prefect_executions.prefect.states import STATUS_OF_TYPE

# Errors that another attempt would only meet again.
_NEVER_MENDS = (
    StateError,
    InputError,
    EffectRefused,
    ReplayMismatch,
    CorruptEntry,
    NotAnExecution,
    UnsuitableStore,
    DurationExceeded,
    CancelledRun,  # somebody wants that
)


class FailedResult(Exception):
    """The flow has returned what Prefect makes a failed run of.

    Args:
        message: What has failed.
        result: What the flow has returned.
        errors: The errors of the states in it.
    """

    def __init__(self, message: str, result: Any, errors: list[BaseException]) -> None:
        super().__init__(message)
        self.result = result
        self.errors = errors


def judged(result: Any) -> Status:
    """What becomes of a run whose flow returns this, by Prefect's rules; waits for futures.

    Raises:
        FailedResult: The run fails.
    """
    returned = resolve_futures_to_states(result)
    if isinstance(returned, State):
        states = [returned]
    elif is_state_iterable(returned):
        states = list(returned)
    else:
        return Status.COMPLETED
    type_ = _type_of(returned, states)
    if type_ not in (StateType.FAILED, StateType.CRASHED):
        return STATUS_OF_TYPE[type_]
    errors = [
        _error_of(state)
        for state in states
        if state.is_failed() or state.is_crashed() or state.is_cancelled()
    ]
    what = f"{errors[0]!r}" if errors else StateGroup(states).counts_message()
    raise FailedResult(f"the flow returned a state that has failed: {what}", result, errors)


def _type_of(returned: Any, states: list[State[Any]]) -> StateType:
    """The type of the state that Prefect makes of one or several states that a flow returns."""
    if isinstance(returned, State):
        details = returned.state_details
        if not (details.flow_run_id or details.task_run_id):  # the flow has made it itself
            return returned.type
    group = StateGroup(states)
    if group.all_completed():
        return StateType.COMPLETED
    if group.any_cancelled():
        return StateType.CANCELLED
    return StateType.PAUSED if group.any_paused() else StateType.FAILED


def _error_of(state: State[Any]) -> BaseException:
    try:
        error: BaseException = run_coro_as_sync(aget_state_exception(state))
    except (TypeError, ValueError, MissingResult):  # its data is no error, or is not kept
        return FailedRun(state.message or f"{state.name}")
    return error


def ungrouped(raised: BaseException) -> BaseException:
    """What a function has ended by, where tasks of a group raise several exceptions.

    A pause is a pause, and what ends a process ends it, whatever else was raised; that is logged.
    """
    if not isinstance(raised, BaseExceptionGroup):
        return raised
    errors = list(_errors_in(raised))
    pauses = (error for error in errors if isinstance(error, Pause))
    first: BaseException | None = next(pauses, None)
    first = first or next((error for error in errors if _ends_the_process(error)), None)
    failed = raised.subgroup(Exception)
    if first is None and failed is not None:
        return failed
    first = first or errors[0]
    if others := [repr(error) for error in errors if error is not first]:
        get_run_logger().warning(
            "The flow ends by %r. Its tasks also raised: %s", first, ", ".join(others)
        )
    return first


def _ends_the_process(error: BaseException) -> bool:
    return not isinstance(error, Exception | asyncio.CancelledError)


def never_mends(failure: BaseException) -> bool:
    """Whether another attempt would only fail again."""
    return any(isinstance(error, _NEVER_MENDS) for error in _errors_in(failure))


def _errors_in(failure: BaseException) -> Iterator[BaseException]:
    """The errors that a failure consists of."""
    inner: list[BaseException] = []
    if isinstance(failure, BaseExceptionGroup):
        inner = list(failure.exceptions)
    elif isinstance(failure, FailedResult):
        inner = failure.errors
    if not inner:
        yield failure
    for error in inner:
        yield from _errors_in(error)
