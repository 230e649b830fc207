"""Attempts in the process of the test, on a real Prefect server, with the log in memory."""

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_runs import pause_flow_run
from prefect.flows import Flow
from prefect.states import Cancelled, Completed, Pending, Running, Suspended
from prefect.utilities.hashing import file_hash

from memory import Count, entries_of, kinds
from prefect_executions import Run, execution
from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import NotAnExecution, StateError, StoreUnavailable
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.local import Stack
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.tags import RETENTION
from prefect_executions.runtime.decorator import _begun
from prefect_executions.runtime.ownership import CHECK_BURST
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.testkit import MemoryStore
from stores import Fault, Faulty


def call(flow: Flow[Any, Any]) -> Any:
    """Run a flow to its end, sync or async."""
    return asyncio.run(flow()) if flow.isasync else flow()


def both(store: MemoryStore, body: Callable[[Run[Count]], None]) -> list[Flow[Any, Any]]:
    """The same flow, sync and async."""

    @flow(name="sync")
    @execution(state=Count, store=store)
    def sync_flow() -> tuple[str, int]:
        run = execution.current(Count)
        body(run)
        run.checkpoint(label="saved")
        return run.id, run.state.n

    @flow(name="async")
    @execution(state=Count, store=store)
    async def async_flow() -> tuple[str, int]:
        run = execution.current(Count)
        body(run)
        await run.acheckpoint(label="saved")
        return run.id, run.state.n

    return [sync_flow, async_flow]


def _add(run: Run[Count]) -> None:
    run.state.n += 1


@pytest.mark.parametrize("index", [0, 1], ids=["sync", "async"])
def test_a_plain_call_is_an_execution(
    stack: Stack, store: MemoryStore, objects: Faulty, index: int
) -> None:
    run_id, n = call(both(store, _add)[index])

    assert n == 1
    created, attempt, saved, result = entries_of(objects, run_id)
    assert (created.kind, attempt.kind, saved.kind) == ("created", "attempt", "checkpoint")
    assert result.meta == {"result": [run_id, 1]}
    assert created.meta is not None
    assert created.meta["config"] == ExecutionConfig().model_dump()
    assert (saved.label, saved.attempt) == ("saved", 1)


def test_what_the_flow_leaves_is_saved_at_its_end(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    @flow
    @execution(store=store)
    def leaves() -> str:
        run = execution.current()
        run.state["answer"] = 42
        return run.id

    run_id = leaves()

    assert ExecutionLog(objects, run_id).head().state == b'{"answer":42}'


def test_an_attempt_ends_the_task_runs_of_those_before(
    stack: Stack, store: MemoryStore, prefect: SyncPrefectClient
) -> None:
    @task
    def left_behind() -> None:
        """What a process was carrying out when it died."""

    left = []

    @flow
    @execution(store=store, max_retries=1)
    def tried_again() -> str:
        run_id = UUID(execution.current().id[5:])
        if execution.current().attempt == 1:
            left.append(prefect.create_task_run(left_behind, run_id, "0", state=Running()))
            raise RuntimeError("once")
        state = prefect.read_task_run(left[0].id).state
        assert state is not None
        return f"{state.name}"

    assert tried_again() == "Crashed"


def test_what_did_not_change_costs_nothing_but_a_new_label_does(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    ids = []

    @flow
    @execution(store=store)
    def repeats() -> str:
        run = execution.current()
        run.state["n"] = 1
        ids.append(run.checkpoint(label="one"))
        ids.append(run.checkpoint(label="one"))
        ids.append(run.checkpoint())
        ids.append(run.checkpoint(label="two"))
        return run.id

    run_id = repeats()

    assert ids == ["ckpt_000002", "ckpt_000002", "ckpt_000002", "ckpt_000003"]
    assert kinds(objects, run_id) == ["created", "attempt", "checkpoint", "checkpoint", "result"]


def test_a_state_that_can_not_be_kept_fails_with_its_path(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    @flow
    @execution(store=store)
    def spoils() -> None:
        run = execution.current()
        run.state["fine"] = 1
        run.checkpoint()
        run.state["scores"] = [1.0, float("nan")]
        run.checkpoint()

    with pytest.raises(StateError, match=r"state\.scores\[1\]: is nan"):
        spoils()


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("", "has 0 characters; give 1 to 200"),
        ("x" * 201, "has 201 characters; give 1 to 200"),
        ("one\ntwo", "has '.n' as character 4; give a single line"),
    ],
    ids=["empty", "long", "lines"],
)
def test_a_wrong_label_is_refused(
    stack: Stack, store: MemoryStore, label: str, problem: str
) -> None:
    @flow
    @execution(store=store)
    def labels() -> None:
        execution.current().checkpoint(label=label)

    with pytest.raises(ValueError, match=f"label: {problem}"):
        labels()


def test_a_retry_of_the_flow_run_continues_from_the_checkpoint(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    seen = []

    @flow(retries=1)
    @execution(state=Count, store=store)
    def fails_once() -> str:
        run = execution.current(Count)
        seen.append((run.attempt, run.state.n, run.resumed_from))
        run.state.n += 1
        run.checkpoint()
        run.state.n += 100
        if run.attempt == 1:
            raise RuntimeError
        return run.id

    run_id = fails_once()

    assert seen == [(1, 0, None), (2, 1, "ckpt_000002")]
    assert ExecutionLog(objects, run_id).head().state == b'{"n":102}'


def test_a_store_that_is_away_fails_the_flow(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    @flow
    @execution(store=store)
    def saves() -> None:
        run = execution.current()
        run.state["n"] = 1
        objects.faults = [Fault.LOST]
        run.checkpoint()

    with pytest.raises(StoreUnavailable):
        saves()


def test_tasks_see_the_execution_of_their_flow(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    """Tasks in the threads of a task runner see it too; their checkpoints are saved in turn."""

    @task
    def add(n: int) -> None:
        run = execution.current()
        run.state[str(n)] = n
        run.checkpoint()

    @flow
    @execution(store=store)
    def maps() -> str:
        add.map(range(5)).wait()
        return execution.current().id

    run_id = maps()

    assert len(entries_of(objects, run_id)) <= 2 + 5
    assert len(ExecutionLog(objects, run_id).head().state) == len('{"0":0,"1":1,"2":2,"3":3,"4":4}')


def test_a_subflow_is_an_execution_of_its_own(stack: Stack, store: MemoryStore) -> None:
    @flow
    @execution(store=store)
    def inner() -> str:
        return execution.current().id

    @flow
    @execution(store=store)
    def outer() -> tuple[str, str, str]:
        before = execution.current().id
        return before, inner(), execution.current().id

    before, other, after = outer()

    assert before == after != other


def test_a_blocking_pause_of_prefects_own_keeps_the_process(
    stack: Stack, store: MemoryStore, objects: Faulty, prefect: SyncPrefectClient
) -> None:
    """`pause_flow_run` gives the run a new Running state, though no other process runs it."""

    @flow
    @execution(state=Count, store=store)
    def pauses() -> str:
        run = execution.current(Count)
        resume = threading.Thread(target=_resume_when_paused, args=(prefect, run.id))
        resume.start()
        pause_flow_run(timeout=30, poll_interval=1)
        resume.join()
        run.state.n = 1
        run.checkpoint()
        return run.id

    run_id = pauses()

    assert kinds(objects, run_id) == ["created", "attempt", "checkpoint", "result"]
    assert prefect.read_flow_run(UUID(run_id[5:])).state.is_completed()  # type: ignore[union-attr]


def _resume_when_paused(prefect: SyncPrefectClient, run_id: str) -> None:
    while not prefect.read_flow_run(UUID(run_id[5:])).state.is_paused():  # type: ignore[union-attr]
        threading.Event().wait(0.05)
    prefect.resume_flow_run(UUID(run_id[5:]))


def test_a_process_that_lost_its_run_does_not_report_its_failure(
    stack: Stack, store: MemoryStore, prefect: SyncPrefectClient
) -> None:
    """The run keeps the state that it has got meanwhile."""
    ids = []

    @flow
    @execution(store=store)
    def loses() -> None:
        run = execution.current()
        ids.append(UUID(run.id[5:]))
        prefect.set_flow_run_state(ids[0], Completed(message="by hand"), force=True)
        raise RuntimeError("too late")

    with pytest.raises(Pause):
        loses()

    state = prefect.read_flow_run(ids[0]).state
    assert state is not None
    assert (state.name, state.message) == ("Completed", "by hand")


def test_a_run_that_was_cancelled_does_not_become_completed(
    stack: Stack, store: MemoryStore, prefect: SyncPrefectClient
) -> None:
    """Prefect would let Completed replace Cancelled."""
    ids = []

    @flow
    @execution(store=store)
    def returns() -> None:
        ids.append(UUID(execution.current().id[5:]))
        prefect.set_flow_run_state(ids[0], Cancelled(message="by hand"), force=True)

    with pytest.raises(Pause):
        returns()

    state = prefect.read_flow_run(ids[0]).state
    assert state is not None
    assert (state.name, state.message) == ("Cancelled", "by hand")


def test_a_deleted_flow_run_ends_its_process_without_a_trace(
    stack: Stack, store: MemoryStore, objects: Faulty, prefect: SyncPrefectClient
) -> None:
    """The run and its log are deleted over REST just before the process saves."""

    @flow
    @execution(state=Count, store=store)
    def survives() -> None:
        run = execution.current(Count)
        log = ExecutionLog(objects, run.id)
        log.delete()
        log.purge()
        prefect.delete_flow_run(UUID(run.id[5:]))
        run.state.n = 1
        run.checkpoint()
        raise AssertionError("never reached")

    with pytest.raises(Pause):
        survives()

    assert list(objects.scan("")) == []


def test_an_execution_deleted_while_it_is_paused_leaves_no_trace(
    stack: Stack, store: MemoryStore, objects: Faulty, prefect: SyncPrefectClient
) -> None:
    """Its process is busy, and saves again after the execution is deleted."""

    @flow
    @execution(state=Count, store=store)
    def busy() -> None:
        run = execution.current(Count)
        prefect.set_flow_run_state(UUID(run.id[5:]), Cancelled(), force=True)
        assert Executions(objects, FlowRuns(prefect)).delete(run.id)
        run.state.n = 1
        run.checkpoint()
        raise AssertionError("never reached")

    with pytest.raises(Pause):
        busy()

    assert list(objects.scan("")) == []


def test_a_task_that_outlives_its_flow_can_not_save(stack: Stack, store: MemoryStore) -> None:
    kept = []

    @flow
    @execution(state=Count, store=store)
    def ends() -> None:
        kept.append(execution.current(Count))

    ends()

    with pytest.raises(NotAnExecution, match=r"attempt 1 of 'exec_\w+' has ended"):
        kept[0].checkpoint()


def test_a_thread_without_prefects_context_can_save(
    stack: Stack, store: MemoryStore, objects: Faulty
) -> None:
    @flow
    @execution(state=Count, store=store)
    def threads() -> str:
        run = execution.current(Count)
        run.state.n = 1
        thread = threading.Thread(target=run.checkpoint)
        thread.start()
        thread.join()
        return run.id

    assert kinds(objects, threads()) == ["created", "attempt", "checkpoint", "result"]


def test_in_a_tight_loop_prefect_is_not_asked_every_time(
    stack: Stack, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    read = SyncPrefectClient.read_flow_run
    monkeypatch.setattr(
        SyncPrefectClient,
        "read_flow_run",
        lambda self, run_id: asked.append(run_id) or read(self, run_id),
    )

    @flow
    @execution(state=Count, store=store)
    def saves_often() -> None:
        run = execution.current(Count)
        asked.clear()
        for n in range(300):
            run.state.n = n
            run.checkpoint()

    saves_often()

    assert CHECK_BURST <= len(asked) < 30


@pytest.mark.parametrize(
    "act", [execution.current, lambda: execution(lambda: None)()], ids=["current", "no flow"]
)
def test_outside_a_flow_there_is_no_execution(act: Callable[[], object]) -> None:
    with pytest.raises(NotAnExecution, match="@flow"):
        act()


def test_the_order_of_the_decorators_is_checked() -> None:
    with pytest.raises(TypeError, match="goes below `@flow`"):

        @execution
        @flow
        def upside_down() -> None: ...


@pytest.mark.parametrize("wrong", [Count, "store", 1])
def test_a_state_given_as_the_function_is_noticed(wrong: Any) -> None:
    with pytest.raises(TypeError, match="did you mean state="):
        execution(wrong)


def test_a_generator_is_no_execution() -> None:
    with pytest.raises(TypeError, match="is a generator"):

        @execution
        def generates() -> Any:
            yield 1


def test_current_checks_the_type_of_the_state(stack: Stack, store: MemoryStore) -> None:
    @flow
    @execution(store=store)
    def mistaken() -> None:
        assert execution.current(dict) is execution.current()
        execution.current(Count)

    with pytest.raises(TypeError, match=r"the state of this execution is dict"):
        mistaken()


def test_a_run_whose_flow_says_what_stays_is_tagged(
    stack: Stack, prefect: SyncPrefectClient, store: MemoryStore
) -> None:
    @flow
    @execution(store=store, keep_checkpoints=5)
    def keeps() -> str:
        return execution.current().id

    assert RETENTION in prefect.read_flow_run(UUID(keeps()[5:])).tags


def test_prefect_finds_the_flow_where_it_was_written() -> None:
    """`.serve` and `.deploy` need the file, and so does the version, which is its hash."""
    sys.path.insert(0, _E2E)
    import tasks  # noqa: PLC0415

    for decorated in (tasks.counting, tasks.counting_async):
        assert inspect.getsourcefile(decorated.fn) == tasks.__file__
        assert decorated.fn.__globals__ is vars(tasks)
        assert decorated.version == file_hash(tasks.__file__)
    assert tasks.counting_async.isasync


def test_a_script_can_serve_its_executions(stack: Stack, tmp_path: Path) -> None:
    """The entrypoint names the script, and its annotations may be strings."""
    script = tmp_path / "script.py"
    script.write_text(
        "from __future__ import annotations\n"
        "from prefect import flow\n"
        "from prefect_executions import execution\n"
        "from pydantic import BaseModel\n"
        "class Topic(BaseModel):\n"
        "    name: str\n"
        "@flow\n"
        "@execution\n"
        "def research(topic: Topic, depth: int = 1) -> str:\n"
        "    return topic.name\n"
        "if __name__ == '__main__':\n"
        "    print(research.to_deployment('served').entrypoint)\n"
        "    print(research({'name': 'bees'}))\n"
    )

    lines = stack.run("python", str(script), cwd=tmp_path).splitlines()

    assert lines == [f"{script.name}:research", "bees"]


def test_a_traceback_shows_the_flow(store: MemoryStore) -> None:
    @execution(store=store)
    def fails() -> None: ...

    with pytest.raises(NotAnExecution) as failure:
        fails()

    frame = failure.traceback[1]
    assert frame.path == Path(__file__)
    assert "def fails()" in str(frame.statement)


def test_the_flow_keeps_its_signature_and_its_file(store: MemoryStore) -> None:
    @flow
    @execution(store=store)
    def greets(name: str, times: int = 2) -> str:
        """Greet somebody."""
        return name * times

    assert list(greets.parameters.properties) == ["name", "times"]
    assert greets.parameters.required == ["name"]
    assert greets.description == "Greet somebody."
    assert greets.fn.__module__ == __name__
    assert greets.fn.__qualname__.endswith("greets")


@pytest.fixture(scope="module")
def deployed(stack: Stack) -> UUID:
    """A deployment that a process of its own can carry out."""
    stack.run("prefect", "--no-prompt", "deploy", "--name", "counting/test", cwd=_E2E)
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name("counting/test").id


@pytest.mark.parametrize(
    "held",
    [Suspended(message="not now"), Cancelled(message="not now")],
    ids=lambda state: state.name,
)
def test_a_run_held_while_its_process_starts_stays_so(
    stack: Stack, prefect: SyncPrefectClient, deployed: UUID, tmp_path: Any, held: State[Any]
) -> None:
    """Prefect lets the process set Running; the process sets the old state again and ends."""
    run = prefect.create_flow_run_from_deployment(
        deployed, parameters={"to": 3}, state=Pending(name="held")
    )
    prefect.set_flow_run_state(run.id, held, force=True)

    done = subprocess.run(
        [sys.executable, "-m", "prefect.engine"],
        env={**os.environ, **stack.env, "PREFECT__FLOW_RUN_ID": str(run.id)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    state = prefect.read_flow_run(run.id).state
    assert done.returncode == 0, done.stderr
    assert state is not None
    assert (state.name, state.message) == (held.name, "not now")
    objects = stack.s3.objects(prefix="executions")
    assert list(objects.scan(f"{run.id.hex[-2:]}/{execution_id(run.id)}/")) == []


_E2E = str(Path(__file__).parents[1] / "e2e")


def test_what_a_flow_has_left_is_saved_when_a_store_that_is_away_is_back(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_executions.runtime.checkpoints.STORE_PAUSE", 0.01)
    faulty = Faulty(MemoryObjects())

    @flow
    @execution(state=Count, store=MemoryStore.of(faulty))
    def leaving() -> str:
        run = execution.current(Count)
        run.state.n = 7
        faulty.faults += [Fault.LOST] * 3
        return run.id

    id_ = leaving()

    assert ExecutionLog(faulty, id_).head().state == b'{"n":7}'


def test_who_is_cancelled_while_it_begins_leaves_no_run_behind() -> None:
    closed, began, may_begin = threading.Event(), threading.Event(), threading.Event()

    class Begun:
        def close(self) -> None:
            closed.set()

    def begin() -> Any:
        began.set()
        assert may_begin.wait(20)
        return Begun()

    async def leave() -> None:
        beginning = asyncio.create_task(_begun(begin))
        assert await asyncio.to_thread(began.wait, 20)
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        may_begin.set()

    asyncio.run(leave())

    assert closed.wait(20)


def test_a_run_shows_nothing_but_what_is_for_authors(stack: Stack, store: MemoryStore) -> None:
    @flow
    @execution(store=store)
    def shows() -> list[str]:
        return [name for name in dir(execution.current()) if not name.startswith("_")]

    assert shows() == [
        "aask",
        "acheckpoint",
        "apause",
        "apublish",
        "ask",
        "attempt",
        "checkpoint",
        "config",
        "id",
        "pause",
        "publish",
        "resumed_from",
        "state",
    ]
