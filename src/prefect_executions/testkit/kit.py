"""`testing()` and its kit: starts executions, and crashes and pauses them."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Suspended
from pydantic import BaseModel

from prefect_executions import serialization
from prefect_executions.config import Effects, ExecutionConfig
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.plans import EMPTY, Changes, Plan
from prefect_executions.ids import checkpoint_seq, is_execution_id
from prefect_executions.log.entry import Kind
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.tags import EXECUTION
from prefect_executions.steps.recorder import watched
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.stores.opening import replaced_by
from prefect_executions.testkit.origin import Origin, read_from, read_origin
from prefect_executions.testkit.processes import Death, Processes
from prefect_executions.testkit.survival import CrashTest, Survival
from prefect_executions.testkit.trial import Trial

_STORE = "testing"


def _result_and_state(trial: Trial) -> dict[str, Any]:
    return {"the result": trial.result, "the state": trial.state}


class TestKit:
    """What `testing` yields: starts executions, and crashes and pauses them."""

    __test__ = False  # pytest

    def __init__(self, client: SyncPrefectClient, objects: Objects) -> None:
        self.executions = Executions(
            objects, FlowRuns(client, store=_STORE, wait=lambda _: None), wait=lambda _: None
        )
        self._processes = Processes(client, objects)
        self.store = self._processes.store
        self._client = client
        self._deployments: dict[int, tuple[Flow[..., Any], UUID]] = {}  # by the ids of the flows

    def start(
        self,
        flow: Flow[..., Any],
        *,
        state: Any = EMPTY,
        config: ExecutionConfig | None = None,
        **parameters: Any,
    ) -> Trial:
        """Create an execution of a flow, and run it until it ends, pauses or crashes.

        Args:
            flow: A flow decorated with `@execution`.
            state: The first state, as JSON or a pydantic model.
            config: How it is run.
            parameters: The parameters of the flow.
        """
        execution, _ = Creation(self.executions).create(
            name=flow.name,
            deployment=self._deployed(flow),
            parameters=flow.serialize_parameters(parameters),
            state=state.model_dump(mode="json") if isinstance(state, BaseModel) else state,
            config=config,
        )
        trial = Trial(self.executions, self._processes, flow, execution)
        trial.run()
        return trial

    def replay(
        self,
        flow: Flow[..., Any],
        source: str | Path | Origin,
        *,
        checkpoint_id: str | None = None,
        allow: Collection[str] = (),
        before_step: Callable[[str], object] = lambda _: None,
    ) -> Trial:
        """Run a flow's code from a checkpoint of an execution: see `prefect_executions.replay`.

        Args:
            flow: A flow decorated with `@execution`.
            source: The path of a file that `export` has written, or the id of an execution in this
                kit.
            checkpoint_id: Where it begins; by default at the beginning.
            allow: The names of steps that may run, though they were never recorded.
            before_step: Called with the name of each step before it is answered or run.
        """
        if isinstance(source, str) and is_execution_id(source):
            origin = read_from(self.executions, source)
        else:
            origin = source if isinstance(source, Origin) else read_origin(source)
        id_, head = origin.log.execution_id, origin.log.living_head()
        at = origin.log.at_checkpoint(checkpoint_seq(id_, checkpoint_id or "ckpt_000000"))
        once = Changes(effects=Effects.REFUSE, config=ExecutionConfig(max_retries=0))
        meta = once.meta_of(id_, at, "")
        meta["fork"]["allow"] = sorted(allow)
        plan = Plan(
            meta,
            at.state,
            self._deployed(flow),
            origin.parameters,
            "",
            once.records_of(origin.log, at, head),
        )
        [(made, _)] = Creation(self.executions).create_all([(plan, None)])
        trial = Trial(self.executions, self._processes, flow, made)
        with watched(before_step):
            trial.run()
        return trial

    def _deployed(self, flow: Flow[..., Any]) -> str:
        """The id of a deployment of a flow."""
        if id(flow) not in self._deployments:
            flow_id = self._client.create_flow(flow)
            deployed = self._client.create_deployment(flow_id, "testing", tags=[EXECUTION])
            self._deployments[id(flow)] = flow, deployed
        return str(self._deployments[id(flow)][1])

    def crash_everywhere(
        self,
        flow: Flow[..., Any],
        parameters: dict[str, Any] | None = None,
        *,
        answers: Iterable[Any] = (),
        before: Callable[[], object] = lambda: None,
        check: Callable[[Trial], object] = lambda _: None,
        compare: Callable[[Trial], dict[str, Any]] = _result_and_state,
        points: int | None = None,
        lose_writes: bool = True,
        state: Any = EMPTY,
        config: ExecutionConfig | None = None,
    ) -> Survival:
        """Run a flow, kill it at each of its points, and compare what it comes to.

        It runs undisturbed first. Then it runs once for each write to the store, is killed right
        before or right after it, and resumed. Each of these runs has to come to the result and the
        state of the undisturbed one, to have recorded as many calls of each step, and to have
        asked the same questions, each once. The ids of executions may differ.

        Args:
            flow: A flow decorated with `@execution`.
            parameters: The parameters of the flow.
            answers: What its questions are answered, in the order in which they are asked. Pauses
                are ended.
            before: Called before each run: clears what stands for the world outside.
            check: Called with the trial when a run has ended: looks at the world outside.
            compare: Returns what has to be the same after a crash, by what it is; by default
                `{"the result": trial.result, "the state": trial.state}`.
            points: How many points are tried at most, evenly spread; None for all.
            lose_writes: Whether the process dies before each write, too: the effect of a step has
                happened then, its record is lost, and it happens once more.
            state: The first state, as JSON or a pydantic model.
            config: How it is run.

        Raises:
            AssertionError: a run comes to something else, or the undisturbed one does not
                complete. The message names the point, and what is likely to help.
        """

        def start() -> Trial:
            before()
            return self.start(flow, state=state, config=config, **parameters or {})

        test = CrashTest(
            flow.name,
            start,
            self.executions,
            self._processes,
            answers=answers,
            check=check,
            compare=compare,
        )
        return test.run(points=points, lose_writes=lose_writes)

    def crash(self) -> NoReturn:
        """Kill the process that calls this."""
        self._processes.crash()

    @contextmanager
    def crash_before(self, n: int) -> Iterator[None]:
        """Kill the process when it is about to write its `n`th entry from now on.

        A process writes one entry when its attempt begins, one for each checkpoint, and one for
        each step; steps that end together share one.
        """
        with self._processes.before_writing(Death(n)):
            yield

    @contextmanager
    def crash_after(self, n: int) -> Iterator[None]:
        """Kill the process when it has written its `n`th entry from now on."""
        with self._processes.having_written(Death(n)):
            yield

    @contextmanager
    def pause_at(self, label: str) -> Iterator[None]:
        """Pause the execution when it saves a checkpoint with this label, as a person would."""
        contexts: dict[str, FlowRunContext | None] = {}  # of the executions, not of subflows

        def pause(_: object, key: str, data: bytes) -> None:
            execution_id = key.split("/")[1]
            header = serialization.load(data.partition(b"\n")[0])
            if header["kind"] == Kind.ATTEMPT:
                contexts[execution_id] = FlowRunContext.get()
            context = contexts.get(execution_id)
            if header.get("label") != label or context is None or context.flow_run is None:
                return
            self._client.set_flow_run_state(context.flow_run.id, Suspended(), force=True)
            state = state_of(self._client.read_flow_run(context.flow_run.id))
            context.flow_run_suspension_request.mark_requested(state)

        with self._processes.having_written(pause, first=True):
            yield


@contextmanager
def testing(objects: Objects | None = None) -> Iterator[TestKit]:  # noqa: PT028
    """Keep executions in memory, and run them in this process.

    Executions are kept here whatever store a flow names. A flow can also be called as usual;
    `TestKit.start` runs it as a worker would, so that it can pause, crash and be resumed.

    Args:
        objects: Where executions are kept; by default in memory, and gone afterwards.
    """
    no_heartbeats = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with no_heartbeats, get_client(sync_client=True) as client:
        kit = TestKit(client, MemoryObjects() if objects is None else objects)
        with replaced_by(kit.store):
            yield kit


testing.__test__ = False  # type: ignore[attr-defined]  # pytest, where a test imports it
