"""Executions in executions: a flow with `@execution`, called inside another one.

The call is recorded in the journal of the execution around it, the parent, like that of a step: by
the flow's name, its inputs and its place, with the id of the execution that it has begun, the
child. When the parent runs again, a child that has returned gives its recorded result. Any other is
the same execution, and continues.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise, takewhile
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.flows import Flow
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed, Paused
from prefect.utilities.callables import get_call_parameters

from prefect_executions.errors import ExecutionError, StateChanged, StateError
from prefect_executions.ids import execution_id, flow_run_id
from prefect_executions.log.journal import Outcome
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.subflows import (
    continue_run,
    is_continued,
    keep_result_from_others,
    leave_around,
    make_ready,
    make_run,
    show_completed,
    stand_around,
)
from prefect_executions.prefect.tags import is_around, parent_of
from prefect_executions.prefect.transitions import find_run, read_states, restore, set_state
from prefect_executions.runtime.attempt import Attempt, running_attempt
from prefect_executions.runtime.ownership import Ownership
from prefect_executions.serialization import JsonType, digest
from prefect_executions.steps.call import code_of
from prefect_executions.steps.futures import identify
from prefect_executions.steps.identity import canonical
from prefect_executions.steps.places import FLOW
from prefect_executions.steps.replay import Call
from prefect_executions.steps.step import returned_by


class ChildEnded(Exception):
    """Somebody has ended a child: the call comes to what they have made of it.

    Args:
        result: What the flow returns: the state that Prefect gives its run.
    """

    def __init__(self, result: State[Any]) -> None:
        super().__init__(result.message)
        self.result = result


class ChildCall:
    """A call of a flow that is an execution, inside another execution.

    Args:
        parent: The attempt that makes the call.
        flow: The flow.
        run: The run that Prefect has made for the call.
        fn: The flow's function.
        parameters: The inputs.

    Raises:
        InputError: An input has no stable identity.
        AmbiguousCall: The call could be mistaken for an equal one.
        ReplayMismatch: Another flow has been called under this name.
        Pause: The parent has to leave before it does anything new.
        NotAnExecution: The parent's attempt has ended.
    """

    def __init__(
        self,
        parent: Attempt[Any],
        flow: Flow[..., Any],
        run: FlowRun,
        fn: Callable[..., Any],
        parameters: dict[str, Any],
    ) -> None:
        self._recorder = parent.recorder
        self._own = parent.ownership
        self._flow = flow
        self._run = run
        self._parameters = parameters
        self._kept = _kept(flow.name, fn)
        self._task = parent.task
        self._child: str | None = None  # the execution, once it is known
        inputs = canonical(parameters, at=flow.name, future=identify, has_key=False)
        self._recorder.claim_name(flow.name, code_of(fn), "flow")
        self._call: Call = self._recorder.begin(
            flow.name,
            digest("flow", flow.name, inputs),
            inputs=None,
            is_keyed=False,
            way_out=FLOW,
        )

    @classmethod
    def here(cls, fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> "ChildCall | None":
        """The call by which this code has got its flow run; None outside of other executions."""
        parent, context = running_attempt(), FlowRunContext.get()
        if parent is None or context is None or context.flow is None or context.flow_run is None:
            return None
        if context.flow_run.id == parent.ownership.run.id:
            return None
        keep_result_from_others(context, parent.ownership.run.id)
        if is_continued(context.flow_run):
            return None
        parameters = get_call_parameters(fn, args, kwargs)
        return cls(parent, context.flow, context.flow_run, fn, parameters)

    @contextmanager
    def carried_out(self) -> Iterator[None]:
        """Carry out the call.

        Raises:
            ChildEnded: Somebody has ended the child.
        """
        replay, in_turn = self._recorder.replay, not self._flow.isasync
        try:
            with self._recorder.in_flight.carrying_out(self._call), replay.running(self._call):
                yield
        except Pause as pause:
            state = self._ended_by(pause)
            if state is None:
                self._leave_around()
                raise
            replay.raised(self._call, in_turn=in_turn)
            raise ChildEnded(state) from None
        except (Exception, asyncio.CancelledError):
            replay.raised(self._call, in_turn=in_turn)
            raise

    def _leave_around(self) -> None:
        """End the run that stands around the child's own, since the child is paused."""
        if not is_around(self._run):
            return
        try:
            leave_around(self._own.client, self._run)
        except ExecutionError as failure:  # the next attempt ends it
            get_run_logger().info("The run around %s stays for now: %s", self._child, failure)

    def recorded(self) -> State[Any] | None:
        """The state of the run that Prefect has made, if the child has returned."""
        known = self._call.record
        if known is None or known.child is None or known.outcome is not Outcome.DONE:
            return None
        try:
            result = self._kept.load(self._recorder.result_of(known)) if self._kept else None
        except StateError:  # it is of another type now; the child makes it anew of its steps
            return None
        stand_around(self._own.client, self._run, self._flow, known.child)
        show_completed(self._own.client, flow_run_id(known.child))
        return Completed(
            name="Replayed",
            message=f"Recorded at {known.at:%Y-%m-%d %H:%M:%S} UTC; the flow was not run.",
            data=result,
        )

    def begin(self) -> FlowRun | None:
        """Begin the child, or find it.

        Returns:
            Its run, for `go_on`; None where that is the run which Prefect has made for the call.

        Raises:
            ChildEnded: Somebody has ended it.
            Pause: Somebody has paused it, and nobody has resumed it or the parent since.
        """
        known, client = self._call.record, self._own.client
        run = find_run(client, flow_run_id(known.child)) if known and known.child else None
        if known is None or run is None:
            # Where Prefect takes a call for an earlier one, it gives it that one's run.
            is_free = parent_of(self._run) is None
            run = (
                self._run
                if is_free
                else make_run(client, self._flow, self._parameters, beside=self._run)
            )
            self._child = execution_id(run.id)
            self._recorder.record_child(self._call, self._child)
        else:
            self._child = execution_id(run.id)
            state = _ended_since(self._own, run, known.at)
            if state is not None:
                self._recorder.record_child(self._call, self._child)  # the next attempt goes on
                raise ChildEnded(state)
        if run.id == self._run.id:
            return None
        stand_around(client, self._run, self._flow, self._child)
        if (pause := _pause_left(self._own, run)) is not None:
            raise Pause(state=pause)
        return make_ready(client, run)

    def go_on(self, run: FlowRun) -> Any:
        """Carry out the child's own run; returns a coroutine where the flow is async."""
        return continue_run(self._flow, run, self._parameters)

    def returned(self, result: Any) -> None:
        """Record the result. One that can't be kept is made anew by the child, of its steps."""
        if self._kept is None:
            return
        try:
            data = self._kept.dump(result)
        except (StateError, StateChanged):
            return
        self._recorder.record(self._call, Outcome.DONE, child=self._child, result=data)

    def given(self) -> None:
        """Note that the flow gets the result; of a call in a task of its own, when that ends."""
        replay = self._recorder.replay
        task = asyncio.current_task() if self._flow.isasync else None
        if task is None or task is self._task:
            replay.given(self._call, in_turn=not self._flow.isasync)
        else:
            task.add_done_callback(lambda _: replay.given(self._call))

    def _ended_by(self, pause: Pause) -> State[Any] | None:
        """What the child has come to, if the pause by which it leaves is no pause but its end."""
        state = pause.state
        if self._child is None:
            return None
        if state is None:
            return Cancelled(message=f"{self._child} was deleted")
        if state.state_details.flow_run_id != flow_run_id(self._child):
            return None
        if not _is_cancelled(state):
            return None
        ended = _cancelled(self._own, flow_run_id(self._child), state)
        self._recorder.record_child(self._call, self._child)  # the next attempt goes on
        return ended


def _kept(name: str, fn: Callable[..., Any]) -> JsonType[Any] | None:
    """The type of what a flow returns; None where it can't be kept."""
    try:
        kept: JsonType[Any] = JsonType(returned_by(fn), what=f"the result of {name}")
        kept.require_kept()
    except (TypeError, StateError):
        return None
    return kept


def _ended_since(own: Ownership, run: FlowRun, since: datetime) -> State[Any] | None:
    """What somebody has made of a child while the parent did not run.

    A child that was cancelled with its parent continues with it.

    Args:
        own: The ownership of the parent's run.
        run: The child's run.
        since: When it was recorded.
    """
    state = state_of(run)
    if state.timestamp <= since or not (state.is_failed() or _is_cancelled(state)):
        return None
    states = read_states(own.client, run.id)[::-1]
    if state.is_failed():  # in a pause, whose time was over: otherwise it has failed by itself
        in_pause = any(before.is_paused() for before in states[1:2])
        return Failed(message=state.message) if in_pause else None
    *_, first = takewhile(_is_cancelled, states)
    is_known = first.timestamp <= since or _was_cancelled(own, since)
    return None if is_known else _cancelled(own, run.id, state)


def _pause_left(own: Ownership, run: FlowRun) -> State[Any] | None:
    """The pause in which a child is, if neither it nor its parent was resumed since.

    Its process died before the pause took effect, so that the parent is tried again as after any
    crash. A crash that covers the pause is undone.
    """
    state = state_of(run)
    if state.is_crashed():
        states = reversed(read_states(own.client, run.id))
        state = next((before for before in states if not before.is_crashed()), state)
    if not state.is_paused() or any(
        before.is_paused() and after.timestamp > state.timestamp
        for before, after in pairwise(own.states)
    ):
        return None
    if not state_of(run).is_paused():
        again: State[Any] = Paused(message=state.message)
        again.name, again.state_details = state.name, state.state_details
        state = state_of(restore(own.client, run.id, again))
    return state


def _was_cancelled(own: Ownership, since: datetime) -> bool:
    return any(_is_cancelled(state) and state.timestamp > since for state in own.states)


def _is_cancelled(state: State[Any]) -> bool:
    return state.is_cancelled() or state.is_cancelling()


def _cancelled(own: Ownership, run_id: Any, state: State[Any]) -> State[Any]:
    """The end of a run that was cancelled; its process is this one, and has left it."""
    message = state.message or f"{execution_id(run_id)} was cancelled"
    if state.is_cancelling():
        set_state(own.client, run_id, Cancelled(message=message), "terminate", force=True)
    return Cancelled(message=message)
