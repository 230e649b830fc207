"""Submitting calls of steps to the flow's task runner."""

from contextvars import copy_context
from functools import partial
from typing import Any

from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.collections import visit_collection

from prefect_executions.steps.call import StepCall, calling
from prefect_executions.steps.futures import StepFuture
from prefect_executions.steps.recorder import Recorder
from prefect_executions.steps.replay import Call


class WaitingCall:
    """A submitted call that waits for plain tasks, whose results it gets: they identify it.

    The task runner waits for them, as for any task's inputs, and the call is begun then.

    Args:
        step: The step, a `Step`.
        recorder: Where the result is recorded.
        parameters: The inputs, with futures of plain tasks.

    Attributes:
        task: The task that carries out the call; it has the step's name and options.
        promise: What is in flight until the flow has the result.
        submitted: When the call was submitted.
        is_identified: False; see `Submitted`.

    Raises:
        TypeError, StateError: Its result can't be kept, by its type.
        Pause: The flow has to leave before it does anything new.
    """

    def __init__(self, step: Any, recorder: Recorder, parameters: dict[str, Any]) -> None:
        _ = step.result_type  # before anything is done
        self.promise, self.submitted = recorder.promise(step.name)
        self.task = calling(step, self._run_async if step.isasync else self._run_sync)
        self._step = step
        self._recorder = recorder
        self._parameters = parameters
        self._context = copy_context()
        self.is_identified = False
        self._begun: StepCall[Any] | None = None

    @property
    def call(self) -> Call | None:
        """The call, once it is identified."""
        return self._begun.call if self._begun else None

    @property
    def calls(self) -> list[Call]:
        """What is in flight until the flow has the result."""
        return [self.promise, *(self._begun.calls if self._begun else [])]

    def submit(self, runner: TaskRunner[Any], *call: Any) -> PrefectFuture[Any]:
        """Submit the call to a task runner."""
        in_flight = self._recorder.in_flight
        try:
            future: Any = runner.submit(self.task, *call)
        except BaseException:
            in_flight.ended(self.promise)
            raise
        future.wrapped_future.add_done_callback(lambda _: in_flight.ended(self.promise))
        return StepFuture(future, self, self._recorder.replay)

    def _run_sync(self, *args: Any, **kwargs: Any) -> Any:
        return self._begin().run(*args, **kwargs)

    async def _run_async(self, *args: Any, **kwargs: Any) -> Any:
        return await self._begin().run(*args, **kwargs)

    def _begin(self) -> StepCall[Any]:
        """The call, identified in the context in which it was submitted, and once for all tries."""
        if self._begun is None:
            begin = partial(StepCall.begin, self._step, self._recorder, self._parameters, self)
            self._begun = self._context.run(begin)
        return self._begun


# A `TaskRunner` for `map`, which makes one call for each input.
class NumberingTaskRunner(TaskRunner[Any]):
    """Numbers the calls that are submitted, and submits them to the flow's task runner."""

    def __init__(self, runner: TaskRunner[Any], recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._runner = runner
        self._recorder = recorder

    @classmethod
    def here(cls, recorder: Recorder) -> "NumberingTaskRunner":
        """One for the task runner of the flow that this code runs in.

        Raises:
            RuntimeError: This code runs in no flow.
        """
        context = FlowRunContext.get()
        if context is None:
            raise RuntimeError("a step is submitted to the task runner of a flow; here is none")
        return cls(context.task_runner, recorder)

    def duplicate(self) -> "NumberingTaskRunner":
        """One that numbers calls for the same task runner."""
        return NumberingTaskRunner(self._runner, self._recorder)

    def submit(
        self, task: Any, parameters: dict[str, Any], wait_for: Any = None, dependencies: Any = None
    ) -> Any:
        """Number a call, and submit it to the flow's task runner.

        A call whose inputs are not ready is numbered when they are. Where that can't be, since the
        function runs in another process or a hook is called before it, they are waited for here.
        """
        rest = parameters, wait_for, dependencies
        runner = self._runner
        can_wait = isinstance(runner, ThreadPoolTaskRunner) and not task.on_running_hooks
        if can_wait and not _are_ready(parameters):
            return WaitingCall(task, self._recorder, parameters).submit(runner, *rest)
        return StepCall[Any].begin(task, self._recorder, parameters).submit(runner, *rest)


def _are_ready(parameters: dict[str, Any]) -> bool:
    """Whether none of a step's inputs is, or has, the future of a plain task."""
    found: list[PrefectFuture[Any]] = []

    def visit(value: Any) -> Any:
        if isinstance(value, StepFuture) and value.is_identified:
            return value
        if isinstance(value, PrefectFuture):
            found.append(value)
        return value

    visit_collection(parameters, visit, return_data=False)
    return not found
