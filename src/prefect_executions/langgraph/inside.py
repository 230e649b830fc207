"""Graphs in an execution: `invoke` runs one, `saver` is its checkpointer."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import INTERRUPT, RESUME
from langgraph.config import get_config
from langgraph.errors import GraphDrained
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.types import Command, Interrupt, StateSnapshot
from pydantic import BaseModel

from prefect_executions.background import in_thread
from prefect_executions.langgraph.index import GraphCheckpoint
from prefect_executions.langgraph.logsaver import config_of
from prefect_executions.langgraph.run_thread import RunSaver, RunThread
from prefect_executions.langgraph.values import given
from prefect_executions.runtime.decorator import execution
from prefect_executions.runtime.run import Run
from prefect_executions.steps.replay import scoped

_CALL = "execution_call"  # the metadata by which a checkpoint belongs to a call of `invoke`

_threads: WeakKeyDictionary[Run[Any], RunThread] = WeakKeyDictionary()


class InterruptAnswer(BaseModel):
    """What a person answers to an `interrupt` that no form is given for."""

    answer: str


Form = type[BaseModel] | Callable[[Interrupt], type[BaseModel]]


def saver(*, serde: SerializerProtocol | None = None) -> RunSaver:
    """The checkpointer of the execution that this code runs in.

    The graph's thread is the execution: its id is `run.id`, and its checkpoints are the execution's
    own, with the step and its nodes as labels. They are in `run.state`, under `langgraph`.

    Args:
        serde: Serializes what is not plain JSON; LangGraph's own by default.

    Raises:
        NotAnExecution: no execution runs here.
        TypeError: the type of its state has no room for them.
    """
    run = execution.current()
    thread = _threads.get(run)
    if thread is None:
        thread = _threads[run] = RunThread()
    return RunSaver(thread, serde)


def invoke(
    graph: Pregel[Any, Any, Any, Any],
    input: Any,  # noqa: A002
    config: RunnableConfig | None = None,
    *,
    form: Form = InterruptAnswer,
    **options: Any,
) -> Any:
    """Run a graph in the execution that this code runs in: `graph.invoke`, but durable.

    An attempt that continues the execution goes on at the newest checkpoint, and does not run
    again what has ended; a call that has ended returns what it has returned. A pause takes effect
    at the next superstep. What a node asks by `interrupt` is a question of the execution (see
    `Run.ask`): answered in the Resume form of the Prefect UI, or by `POST …/resume` with `input`.
    Nodes may call steps; equal ones in two tasks are two calls.

    Args:
        graph: The graph, compiled with `checkpointer=saver()`.
        input: Its input; not looked at where the call has begun in an earlier attempt.
        config: As of `graph.invoke`; the thread is the execution.
        form: What is asked in an `interrupt`: a model, or a function that returns one for an
            `Interrupt`. The node gets its fields as a dict; of `InterruptAnswer`, the default, the
            text.
        options: As of `graph.invoke`. `durability` is `sync` by default; when a checkpoint is
            durable is what `@execution(durability=…)` says.

    Returns:
        What the graph returns.

    Raises:
        TypeError: the graph has another checkpointer.
        StateError: a channel has a value that can't be kept; it is named.
    """
    call = _Invocation(graph, input, config, options)
    while not call.has_ended():
        for asked, key in call.questions():
            model, prompt = _model(form, asked), _prompt(asked)
            call.answer(asked, call.run.ask(model, prompt=prompt, key=key))
        with call.running() as next_input:
            graph.invoke(next_input, call.config, **call.options)
        if (reason := call.stopped()) is not None:
            call.run.pause(reason, key=call.place)
    return call.result()


async def ainvoke(
    graph: Pregel[Any, Any, Any, Any],
    input: Any,  # noqa: A002
    config: RunnableConfig | None = None,
    *,
    form: Form = InterruptAnswer,
    **options: Any,
) -> Any:
    """`invoke` for async flows, by `graph.ainvoke`."""
    call = _Invocation(graph, input, config, options)
    while not await in_thread(call.has_ended):
        for asked, key in await in_thread(call.questions):
            model, prompt = _model(form, asked), _prompt(asked)
            call.answer(asked, await call.run.aask(model, prompt=prompt, key=key))
        with call.running() as next_input:
            await graph.ainvoke(next_input, call.config, **call.options)
        if (reason := await in_thread(call.stopped)) is not None:
            await call.run.apause(reason, key=call.place)
    return call.result()


class _Invocation:
    """One call of `invoke`: where it goes on, what it asks, and what it has come to.

    Attributes:
        run: The execution.
        config: What the graph is run with.
        options: Others of these.
        place: The id of the newest checkpoint.
    """

    def __init__(
        self,
        graph: Pregel[Any, Any, Any, Any],
        input_: Any,
        config: RunnableConfig | None,
        options: Mapping[str, Any],
    ) -> None:
        checkpointer = graph.checkpointer
        if not isinstance(checkpointer, RunSaver):
            raise TypeError("checkpointer: compile the graph with `checkpointer=saver()`.")
        self.run = execution.current()
        self.place = ""
        self._graph, self._saver, self._given = graph, checkpointer, input_
        thread = self._thread = checkpointer.thread
        thread.calls += 1
        self._number = thread.calls
        self._newest = config_of(self.run.id)
        self.config = merge_configs(config, self._newest, {"metadata": {_CALL: self._number}})
        # A checkpoint is taken down before the tasks after it begin: so is it in the log.
        self.options = {"durability": "sync", **options}
        self._state: StateSnapshot | None = None
        self._answers: dict[str, Any] = {}

    def has_ended(self) -> bool:
        """Look where the call is: whether it has come to its end, in this attempt or before."""
        self._thread.refresh()
        index, serde = self._thread.index, self._saver.serde
        numbers = ((at, number_of(at, serde)) for at in index.newest_first(""))
        newest = next(((at, number) for at, number in numbers if number is not None), None)
        if newest is None or newest[1] < self._number:
            return False
        config = self._newest
        if newest[1] > self._number:  # it has ended before a later one began
            numbers = ((at, number_of(at, serde)) for at in index.newest_first(""))
            last = next(at for at, number in numbers if number == self._number)
            config = config_of(self.run.id, "", last.id)
        self._state = state = self._graph.get_state(config)
        self.place = state.config["configurable"]["checkpoint_id"]
        return newest[1] > self._number or not state.tasks  # `next` leaves out what has ended

    def questions(self) -> list[tuple[Interrupt, str]]:
        """What nodes ask, and the keys of these questions: a task may ask several."""
        if self._state is None:
            return []
        answered: dict[str, int] = {}
        for writes in self._thread.index.writes.values():
            asked: dict[str, set[str]] = {}
            answers: dict[str, int] = {}
            for write in writes.values():
                if write.value is None:  # its task has ended: a checkpoint came of it
                    continue
                if write.channel == INTERRUPT:
                    interrupts = given(write.value, self._saver.serde)
                    asked.setdefault(write.task, set()).update(one.id for one in interrupts)
                elif write.channel == RESUME:
                    value = given(write.value, self._saver.serde)
                    answers[write.task] = len(value) if isinstance(value, list) else 1
            for task, ids in asked.items():
                for id_ in ids:
                    answered[id_] = max(answered.get(id_, 0), answers.get(task, 0))
        found = self._state.interrupts
        return [(one, f"langgraph {one.id} {answered.get(one.id, 0)}") for one in found]

    def answer(self, asked: Interrupt, answer: BaseModel) -> None:
        """Take in what a person has answered."""
        value = (
            answer.answer if isinstance(answer, InterruptAnswer) else answer.model_dump(mode="json")
        )
        self._answers[asked.id] = value

    @contextmanager
    def running(self) -> Iterator[Any]:
        """Let the body run the graph; yields its input.

        Raises:
            Pause: a save has left the flow; the graph was stopped at its next superstep.
        """
        thread, control = self._thread, RunControl()
        self.options["control"] = control
        thread.control, thread.left = control, None
        input_: Any = None if self._state is not None else self._given
        if self._answers:
            input_, self._answers = Command(resume=self._answers), {}
        try:
            with scoped(_task):
                yield input_
        except GraphDrained:
            if thread.left is None:
                raise
        except BaseException:
            if thread.left is None:
                raise
        if thread.left is not None:
            raise thread.left

    def stopped(self) -> str | None:
        """Where the graph has stopped on its own, at one of its breakpoints."""
        if self.has_ended() or self._state is None or self._state.interrupts:
            return None
        return f"Before {', '.join(task.name for task in self._state.tasks)}"

    def result(self) -> Any:
        """What the graph has returned."""
        assert self._state is not None
        values, names = self._state.values, self._graph.output_channels
        if isinstance(names, str) or not isinstance(values, dict):
            return values
        return {name: values[name] for name in names if name in values}


def number_of(at: GraphCheckpoint, serde: SerializerProtocol) -> int | None:
    """The number of the call of `invoke` that a checkpoint belongs to."""
    number: int | None = given(at.metadata, serde).get(_CALL)
    return number


def _task() -> str | None:
    """The task of a graph that this code runs in: the same when it is run again."""
    try:
        namespace: str = get_config()["configurable"].get("checkpoint_ns", "")
    except RuntimeError:
        return None
    return namespace or None


def _model(form: Form, asked: Interrupt) -> type[BaseModel]:
    return form if isinstance(form, type) else form(asked)


def _prompt(asked: Interrupt) -> str:
    if isinstance(asked.value, str):
        return asked.value
    return f"```json\n{json.dumps(asked.value, indent=2, default=str)}\n```"
