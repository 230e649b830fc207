"""One call of a step: its identity, and how it is carried out, replayed and recorded."""

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from copy import copy
from functools import partial, wraps
from types import CodeType
from typing import Any, Generic, Protocol, TypeVar

from prefect.exceptions import Pause
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.states import Completed, State
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_executions import serialization
from prefect_executions.background import in_thread
from prefect_executions.errors import InputError, StateChanged, StateError
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.serialization import digest
from prefect_executions.steps.futures import StepFuture, identify, identify_anywhere
from prefect_executions.steps.identity import canonical
from prefect_executions.steps.keys import filled
from prefect_executions.steps.recorder import Recorder
from prefect_executions.steps.replay import Call
from prefect_executions.steps.transactions import RollbackHook, commits_itself

R = TypeVar("R")


class Waited(Protocol):
    """How a call was submitted that waited for its inputs."""

    @property
    def task(self) -> Any:
        """The task that carries out the call."""
        ...

    @property
    def promise(self) -> Call:
        """What has stood for the call."""
        ...

    @property
    def submitted(self) -> int:
        """When it was submitted."""
        ...


class StepCall(Generic[R]):
    """One call of a step: the recorded result, or the function's, which is recorded.

    Args:
        step: The step, a `Step`.
        recorder: Where the result is recorded.
        call: The call's place among the others.
        waited: How it was submitted, if it waited for its inputs.
        called_with: What people read of its inputs.

    Attributes:
        call: The call's place among the others.
        task: The task that carries out the call; it has the step's name and options.
        is_identified: True; see `Submitted`.
    """

    def __init__(
        self,
        step: Any,
        recorder: Recorder,
        call: Call,
        waited: Waited | None = None,
        called_with: str = "",
    ) -> None:
        self._step = step
        self.call = call
        self.task = waited.task if waited else calling(step, self.run)
        self._promise = waited.promise if waited else None
        self.task.on_rollback_hooks = [*step.on_rollback_hooks, RollbackHook(recorder, call)]
        self._commits_itself = commits_itself()
        if call.record is not None:
            self.task.on_running_hooks = []
        self._recorder = recorder
        self._called_with = called_with
        self.is_identified = True
        self._result: list[R] = []  # of the function or the record, once there is one
        self._was_replayed = False

    @classmethod
    def begin(
        cls,
        step: Any,
        recorder: Recorder,
        parameters: dict[str, Any],
        waited: Waited | None = None,
    ) -> "StepCall[R]":
        """Identify a call of a step.

        Args:
            step: The step, a `Step`.
            recorder: Where the result is recorded.
            parameters: The inputs. Futures of plain tasks among them are waited for.
            waited: How it was submitted, if it waited for its inputs.

        Raises:
            TypeError, StateError: Its result can't be kept, by its type.
            InputError: An input has no stable identity.
            ReplayMismatch: Another call is recorded under its key.
            Pause: The flow has to leave before it does anything new.
        """
        _ = step.result_type  # before anything is done
        inputs: str | None = None
        if step.key is None:
            key = digest("step", step.name, canonical(parameters, at=step.name, future=identify))
            if step.repeats == "reuse":
                key = digest("reuse", key)
        else:
            key = digest("key", filled(step.name, step.key, parameters))
            try:
                inputs = digest(canonical(parameters, at=step.name, future=identify_anywhere))
            except InputError:  # such inputs are what keys are for
                inputs = None
        recorder.claim_name(step.name, code_of(step.fn))
        is_keyed = step.key is not None or step.repeats == "reuse"
        submitted = waited.submitted if waited else None
        call = recorder.begin(step.name, key, inputs=inputs, is_keyed=is_keyed, submitted=submitted)
        # Now, since the function may change its inputs.
        shown = step.called_with(parameters) if call.record is None else ""
        return cls(step, recorder, call, waited, shown)

    def returned(self, result: Any, return_state: bool) -> Any:
        """What the caller gets for what the task returned."""
        if self._result:
            self._recorder.replay.given(self.call, in_turn=not self._step.isasync)
        else:  # it failed and returns a state, or did not even begin
            self._note(Outcome.BEGUN)
            self._recorder.replay.raised(self.call, in_turn=not self._step.isasync)
        # A task that ends in a state of its own returns that state, which the Prefect UI shows.
        return self._result[0] if self._was_replayed and not return_state else result

    async def returned_later(self, result: Any, return_state: bool) -> Any:
        """`returned`, in the context that awaits the result."""
        with self.calling():
            result = await result
        return self.returned(result, return_state)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Give the call's place to the next equal call where the body, which makes it, raises."""
        try:
            with self.noting_failure():
                yield
        except (Exception, asyncio.CancelledError):
            self._recorder.replay.raised(self.call, in_turn=not self._step.isasync)
            raise

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Record that the call has begun where it fails: it keeps its place before later ones."""
        try:
            yield
        except (Exception, asyncio.CancelledError):  # an async step out of time is cancelled
            self._note(Outcome.BEGUN)
            raise

    def submit(self, runner: TaskRunner[Any], *call: Any) -> PrefectFuture[Any]:
        """Submit the call to a task runner.

        A task runner with other processes runs only the function there: this process waits for the
        result and records it.
        """
        replay, in_flight = self._recorder.replay, self._recorder.in_flight
        if isinstance(runner, ThreadPoolTaskRunner):
            return StepFuture(runner.submit(self.task, *call), self, replay)
        if replay.claim(self.call) is not None:
            replay.release(self.call)
            there = self._recorder.threads.submit(self.task, *call)
            return StepFuture(there, self, replay)
        try:
            in_flight.began(self.call)
            there = runner.submit(_portable(self._step), *call)
        except BaseException:
            in_flight.ended(self.call)
            replay.release(self.call)
            raise
        recorded = self._recorder.waiters.submit(copy_context().run, self._record_from, there)
        recorded_there = PrefectConcurrentFuture(there.task_run_id, recorded)
        return StepFuture(recorded_there, self, replay)

    def _record_from(self, there: PrefectFuture[Any]) -> State[Any]:
        """Wait for a future, and record its result before anything else gets it."""
        try:
            with suppress(Pause):  # the step is done all the same; who asks for the result leaves
                there.wait()
            state = there.state
            if state.is_completed():
                self._result = [run_coro_as_sync(state.aresult(raise_on_failure=False))]
                self._record()
            else:
                self._note(Outcome.BEGUN)
            return state
        finally:
            self._recorder.in_flight.ended(self.call)
            self._recorder.replay.release(self.call)

    @property
    def calls(self) -> list[Call]:
        """What is in flight until the flow has the result."""
        return [self.call]

    @property
    def run(self) -> Any:
        """What carries out the call with its inputs: a function, or an async one."""
        return self._run_async if self._step.isasync else self._run_sync

    def _run_sync(self, *args: Any, **kwargs: Any) -> Any:
        with self._running() as known:
            if known is not None and not self._result:
                return self._replay(known)
            if not self._result:
                self._result = [self._step.fn(*args, **kwargs)]
            self._record()
        return self._result[0]

    async def _run_async(self, *args: Any, **kwargs: Any) -> Any:
        with self._running() as known:
            if known is not None and not self._result:
                return await in_thread(self._replay, known)
            if not self._result:
                self._result = [await self._step.fn(*args, **kwargs)]
            await in_thread(self._record)
        return self._result[0]

    @contextmanager
    def _running(self) -> Iterator[Record | None]:
        carried_out = self._recorder.in_flight.carrying_out(self.call, self._promise)
        with carried_out, self._recorder.replay.running(self.call) as known, self.noting_failure():
            yield known

    def _record(self) -> None:
        """Record the result; again where that failed and Prefect tries the task again.

        Raises:
            StateError: The result can't be kept, which is recorded.
        """
        try:
            data = self._step.result_type.dump(self._result[0])
        except (StateError, StateChanged) as problem:
            why = _reason(problem)
            self._note(Outcome.UNKEPT, result=why)
            raise self._step.unkept(why) from problem
        step, undo = self._step, {}
        if step.undo is not None:
            undo = {"undo": True, "function": step.function, "undo_by": step.undo_by}
        self._note(Outcome.DONE, result=data, **undo)

    def _note(self, outcome: Outcome, **fields: Any) -> None:
        self._recorder.record(self.call, outcome, called_with=self._called_with, **fields)

    def _replay(self, record: Record) -> Any:
        """The recorded result in a state that says so.

        Raises:
            ReplayMismatch: The result is of another type.
            StateError: The result could not be kept.
        """
        self._result = [self._step.recorded_result(self._recorder, record)]
        self._was_replayed = True
        self.task.on_completion_hooks = []
        if self._commits_itself:
            self.task.on_commit_hooks = []
        return Completed(
            name="Replayed",
            message=f"Recorded at {record.at:%Y-%m-%d %H:%M:%S} UTC; the function was not run.",
            data=self._result[0],
        )


def calling(step: Any, fn: Any) -> Any:
    """A copy of a step that calls another function under the name and signature of its own."""
    other = copy(step)
    other.fn = in_place_of(step.fn, fn)
    return other


def in_place_of(fn: Any, call: Any) -> Any:
    """`call` under the name and signature of `fn`; it can be given attributes of its own."""
    return wraps(fn)(partial(call))


def _reason(error: StateError | StateChanged) -> bytes:
    """Why a result can't be kept, as it is recorded."""
    problem = error.problem if isinstance(error, StateError) else "it was changed meanwhile."
    texts = [error.path[:200], problem[:1000]]
    return serialization.dump([text.encode("utf-8", "replace").decode() for text in texts])


def _portable(step: Any) -> Any:
    """A copy of a step that can be sent to another process."""
    other = copy(step)
    other._result_type = None
    return other


def code_of(fn: Any) -> CodeType | None:
    """The code of a function, which is the same for all functions made of one text."""
    return getattr(inspect.unwrap(fn), "__code__", None)
