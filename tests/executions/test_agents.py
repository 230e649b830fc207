"""External agents: they create, begin, report, and learn what was done in the Prefect UI."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import AwaitingRetry, Cancelling, Crashed, Failed, Running, Suspended

from prefect_executions.config import ExecutionConfig, Status
from prefect_executions.errors import (
    CheckpointNotFound,
    ExecutionConflict,
    PrefectUnavailable,
    StateError,
    Superseded,
)
from prefect_executions.executions.agents import ExternalAgents
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.plans import EMPTY
from prefect_executions.ids import checkpoint_seq
from prefect_executions.local import Stack
from prefect_executions.log.entry import Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import History
from prefect_executions.log.results import RESULT_BYTES
from prefect_executions.models import Execution
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.resume_form import resume_form
from prefect_executions.storage.objects import MemoryObjects
from stores import Faulty


class Agents:
    """External agents, and what people do to their executions in the Prefect UI."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.flow_runs = FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
        self.executions = Executions(MemoryObjects(), self.flow_runs)
        self.external = ExternalAgents(self.executions)

    def create(self, state: Any = EMPTY, **config: Any) -> Execution:
        execution, _ = Creation(self.executions).create(
            name="task", state=state, config=ExecutionConfig(**config)
        )
        return execution

    def save(self, execution: Execution, state: Any, attempt: int = 1) -> Status:
        return self.executions.checkpoint(execution.id, state=state, attempt=attempt).status

    def run(self, execution: Execution) -> FlowRun:
        return self.prefect.read_flow_run(execution.prefect.flow_run_id)

    def name_of(self, execution: Execution) -> str | None:
        state = self.run(execution).state
        assert state is not None
        return state.name

    def in_the_ui(self, execution: Execution, state: State[Any]) -> None:
        self.prefect.set_flow_run_state(execution.prefect.flow_run_id, state, force=True)

    def pause_in_the_ui(self, execution: Execution) -> None:
        expires = datetime.now(UTC) + timedelta(seconds=300)
        self.in_the_ui(execution, Suspended(pause_expiration_time=expires))

    def resume_in_the_ui(self, execution: Execution, **answer: Any) -> None:
        answered = self.prefect.resume_flow_run(self.run(execution).id, run_input=answer or None)
        assert answered.status.value == "ACCEPT"

    def choose_in_the_ui(self, execution: Execution, checkpoint_id: str) -> None:
        form = resume_form(self.executions.log(execution.id).read(checkpoints=25, journal=True))
        choices = form.schema["properties"]["checkpoint"]["enum"]
        (choice,) = (choice for choice in choices if checkpoint_id in choice)
        self.executions.pause(execution.id)
        self.resume_in_the_ui(execution, checkpoint=choice)

    def kinds(self, execution: Execution) -> list[Kind]:
        entries = self.executions.log(execution.id).read(checkpoints=None).entries
        return [entries[seq].kind for seq in sorted(entries)]


@pytest.fixture
def here(stack: Stack) -> Iterator[Agents]:
    with get_client(sync_client=True) as client:
        yield Agents(client)


def test_who_creates_without_a_deployment_runs_it(here: Agents) -> None:
    execution = here.create({"n": 0})

    assert execution.status is Status.RUNNING
    assert execution.prefect.attempt == 1
    assert execution.started_at is not None
    assert here.save(execution, {"n": 1}) is Status.RUNNING
    assert here.executions.get(execution.id).state == {"n": 1}


def test_its_run_has_a_deployment_so_that_the_ui_offers_its_buttons(here: Agents) -> None:
    one, other = here.create(), here.create()

    deployment = here.run(one).deployment_id
    assert deployment is not None
    assert deployment == here.run(other).deployment_id
    assert here.prefect.read_deployment(deployment).name == "outside-prefect"


def test_a_pause_in_the_ui_reaches_it_with_its_next_checkpoint(here: Agents) -> None:
    execution = here.create()
    here.pause_in_the_ui(execution)

    assert here.save(execution, {"n": 1}) is Status.PAUSED
    assert here.executions.get(execution.id).state == {"n": 1}
    assert here.external.heartbeat(execution.id, 1).status is Status.PAUSED


def test_after_a_resume_in_the_ui_it_begins_an_attempt(here: Agents) -> None:
    execution = here.create()
    here.pause_in_the_ui(execution)
    here.save(execution, {"n": 1})
    here.resume_in_the_ui(execution)

    begun = here.external.begin(execution.id)

    assert begun.state == {"n": 1}
    assert begun.prefect.attempt == 2
    assert here.name_of(execution) == "Running"
    assert here.save(execution, {"n": 2}, attempt=2) is Status.RUNNING


def test_a_roll_back_chosen_in_the_resume_form_is_what_it_continues_from(here: Agents) -> None:
    execution = here.create()
    here.save(execution, {"n": 1})
    good = here.executions.get(execution.id).checkpoints[0]
    here.save(execution, {"n": 2})
    here.choose_in_the_ui(execution, good.id)

    begun = here.external.begin(execution.id)

    assert begun.state == {"n": 1}
    assert here.external.begin(execution.id).state == {"n": 1}  # the choice counts once
    here.save(execution, {"n": 5}, attempt=3)
    assert here.external.begin(execution.id).state == {"n": 5}


def test_a_choice_that_can_t_be_followed_is_said_once(here: Agents) -> None:
    execution = here.create()
    here.save(execution, {"n": 1})
    chosen = here.executions.get(execution.id).checkpoints[0].id
    here.choose_in_the_ui(execution, chosen)
    here.executions.log(execution.id).remove([checkpoint_seq(execution.id, chosen)])

    with pytest.raises(CheckpointNotFound):
        here.external.begin(execution.id)

    assert here.external.begin(execution.id).prefect.attempt == 2


def test_a_roll_back_over_rest_comes_after_a_choice_that_nobody_has_followed(here: Agents) -> None:
    execution = here.create()
    for n in (1, 2, 3):
        here.save(execution, {"n": n})
    _, second, first = here.executions.get(execution.id).checkpoints
    here.choose_in_the_ui(execution, second.id)
    here.in_the_ui(execution, Crashed())  # before it has begun

    here.executions.resume(execution.id, checkpoint_id=first.id)

    assert here.external.begin(execution.id).state == {"n": 1}


def test_a_roll_back_comes_after_a_pause_in_which_nothing_was_chosen(here: Agents) -> None:
    execution = here.create()
    here.save(execution, {"n": 1})
    here.executions.pause(execution.id)
    here.executions.resume(execution.id)
    here.in_the_ui(execution, Failed())

    resumed = here.executions.resume(execution.id, checkpoint_id="ckpt_000000")

    assert resumed.status is Status.RUNNING
    assert here.name_of(execution) == "AwaitingRetry"
    assert here.external.begin(execution.id).state == {}


def test_a_roll_back_of_one_that_somebody_else_lets_go_on_is_done(here: Agents) -> None:
    execution = here.create()
    here.save(execution, {"n": 1})
    here.in_the_ui(execution, Crashed())
    resume = here.flow_runs.resume

    def second(*args: Any, **options: Any) -> FlowRun:
        resume(*args, **options)
        return resume(*args, **options)

    here.flow_runs.resume = second  # type: ignore[method-assign]
    resumed = here.executions.resume(execution.id, checkpoint_id="ckpt_000000")

    assert resumed.status is Status.RUNNING
    assert here.external.begin(execution.id).state == {}


def test_nobody_writes_behind_a_result(here: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = here.create()

    def away(_: FlowRun) -> FlowRun:
        raise PrefectUnavailable("just now")

    with monkeypatch.context() as patched:
        patched.setattr(here.flow_runs, "complete", away)
        with pytest.raises(PrefectUnavailable):
            here.external.complete(execution.id, result={"found": 2}, attempt=1)
    with pytest.raises(ExecutionConflict, match="just being completed"):
        here.executions.checkpoint(execution.id, state={"by": "hand"})
    here.external.complete(execution.id, result={"found": 2}, attempt=1)

    assert here.executions.get(execution.id).result == {"found": 2}


def test_rest_and_ui_resume_alike(here: Agents) -> None:
    execution = here.create()
    here.save(execution, {"n": 1})
    here.executions.pause(execution.id)
    resumed = here.executions.resume(execution.id, checkpoint_id="ckpt_000000")

    assert resumed.state == {}
    assert here.external.begin(execution.id).state == {}


def test_a_cancellation_in_the_ui_reaches_it_and_is_done(here: Agents) -> None:
    execution = here.create()
    here.in_the_ui(execution, Cancelling())

    with pytest.raises(ExecutionConflict) as refusal:
        here.save(execution, {"n": 1})

    assert refusal.value.status is Status.TERMINATED
    assert here.name_of(execution) == "Cancelled"
    assert here.executions.get(execution.id).state == {}


def test_an_older_attempt_is_refused(here: Agents) -> None:
    execution = here.create()
    here.external.begin(execution.id)  # its machine was restarted

    for report in (
        lambda: here.save(execution, {"n": 9}, attempt=1),
        lambda: here.external.heartbeat(execution.id, 1),
        lambda: here.external.complete(execution.id, attempt=1),
        lambda: here.external.fail(execution.id, error="no", attempt=1),
    ):
        with pytest.raises(Superseded):
            report()
    assert here.executions.get(execution.id).state == {}
    assert here.executions.get(execution.id).status is Status.RUNNING


def test_an_attempt_that_somebody_resumed_over_is_refused_before_the_next_begins(
    here: Agents,
) -> None:
    execution = here.create()
    here.executions.pause(execution.id)
    here.executions.resume(execution.id)

    with pytest.raises(Superseded):
        here.save(execution, {"n": 9})


def test_a_report_behind_a_roll_back_is_refused(here: Agents) -> None:
    """The run is still paused, but the log has been rolled back."""
    execution = here.create()
    here.save(execution, {"n": 1})
    here.executions.pause(execution.id)
    here.executions.log(execution.id).rollback(0)

    with pytest.raises(Superseded):
        here.save(execution, {"n": 2})


def test_an_attempt_that_begins_as_another_completes_undoes_no_result(
    here: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution, complete = here.create(), FlowRuns.complete

    def begin_then_complete(flow_runs: FlowRuns, run: FlowRun) -> FlowRun:
        monkeypatch.undo()
        with pytest.raises(ExecutionConflict, match="completed"):
            here.external.begin(execution.id)
        return complete(flow_runs, flow_runs.read(run.id))

    monkeypatch.setattr(FlowRuns, "complete", begin_then_complete)

    done = here.external.complete(execution.id, result=7, attempt=1)

    assert (done.status, done.result) == (Status.COMPLETED, 7)
    assert here.executions.get(execution.id).result == 7


def test_two_that_begin_at_once_are_two_attempts(here: Agents) -> None:
    execution = here.create()

    attempts = {here.external.begin(execution.id).prefect.attempt for _ in range(3)}

    assert attempts == {2, 3, 4}


@pytest.mark.parametrize("state", [Suspended(), Cancelling()])
def test_what_comes_as_an_attempt_begins_wins(
    here: Agents, state: State[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect would let Running replace it."""
    execution = here.create()
    start = FlowRuns.start

    def started_late(self: FlowRuns, run: FlowRun) -> FlowRun:
        here.in_the_ui(execution, state)
        return start(self, run)

    monkeypatch.setattr(FlowRuns, "start", started_late)
    with pytest.raises(ExecutionConflict):
        here.external.begin(execution.id)

    assert here.name_of(execution) == state.name
    assert here.executions.get(execution.id).status in (Status.PAUSED, Status.TERMINATED)


@pytest.mark.parametrize("state", [Suspended(), Cancelling()])
def test_what_is_held_is_not_begun(here: Agents, state: State[Any]) -> None:
    execution = here.create()
    here.in_the_ui(execution, state)

    with pytest.raises(ExecutionConflict, match="Resume it first"):
        here.external.begin(execution.id)

    assert here.executions.get(execution.id).prefect.attempt == 1


def test_it_completes_with_a_result(here: Agents) -> None:
    execution = here.create()

    ended = here.external.complete(execution.id, state={"n": 3}, result=[1, None], attempt=1)

    assert (ended.status, ended.state, ended.result) == (Status.COMPLETED, {"n": 3}, [1, None])
    assert ended.completed_at is not None
    assert here.executions.get(execution.id).result == [1, None]
    assert here.external.complete(execution.id, attempt=1).result == [1, None]  # a repeat
    with pytest.raises(ExecutionConflict):
        here.save(execution, {"n": 4})


def test_what_completes_while_it_is_read_is_not_told_without_its_result(
    here: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution, read, run = here.create(), Event(), Executions.run

    def read_log(log: ExecutionLog, **options: Any) -> History:
        history = read_of(log, **options)
        read.set()
        return history

    def complete_then_run(executions: Executions, id_: str) -> FlowRun:
        assert read.wait(20)
        monkeypatch.undo()
        here.external.complete(id_, state={"n": 3}, result=1)
        return run(executions, id_)

    read_of = ExecutionLog.read
    monkeypatch.setattr(ExecutionLog, "read", read_log)
    monkeypatch.setattr(Executions, "run", complete_then_run)

    told = here.executions.get(execution.id)

    assert (told.status, told.state, told.result) == (Status.COMPLETED, {"n": 3}, 1)


def test_who_was_paused_and_is_done_all_the_same_completes(here: Agents) -> None:
    execution = here.create()
    here.pause_in_the_ui(execution)

    assert here.external.complete(execution.id, result=1).status is Status.COMPLETED


def test_a_result_that_is_too_large_is_refused(here: Agents) -> None:
    execution = here.create()

    with pytest.raises(StateError, match="at most"):
        here.external.complete(execution.id, result="x" * RESULT_BYTES, state={"n": 1})

    assert here.executions.get(execution.id).status is Status.RUNNING
    assert here.executions.get(execution.id).state == {}


def test_it_fails_for_good_without_retries(here: Agents) -> None:
    execution = here.create()

    ended = here.external.fail(execution.id, error="No disk", state={"n": 1}, attempt=1)

    assert (ended.status, ended.state) == (Status.FAILED, {"n": 1})
    assert ended.prefect.message == "No disk"
    here.executions.resume(execution.id)
    assert here.external.begin(execution.id).state == {"n": 1}


def test_a_failure_is_tried_again_while_there_are_retries(here: Agents) -> None:
    execution = here.create(max_retries=1)

    failed = here.external.fail(execution.id, error="No disk")

    assert failed.status is Status.RUNNING
    assert failed.prefect.state_name == "AwaitingRetry"
    assert failed.prefect.message == "Retry 1 of 1 after: No disk"
    begun = here.external.begin(execution.id)
    assert begun.prefect.attempt == 2
    assert here.external.fail(execution.id, error="No disk", attempt=2).status is Status.FAILED


def test_a_retry_has_its_time(here: Agents) -> None:
    execution = here.create(max_retries=1, retry_delay_seconds=3600)
    here.external.fail(execution.id, error="No disk")

    with pytest.raises(ExecutionConflict, match="to be tried again at"):
        here.external.begin(execution.id)

    assert here.executions.get(execution.id).prefect.attempt == 1


def test_its_time_is_over_with_its_next_report(here: Agents) -> None:
    saving, beating, completing = (here.create(max_duration_seconds=60) for _ in range(3))
    later = replace(here.executions, clock=lambda: datetime.now(UTC) + timedelta(seconds=100))
    agent = ExternalAgents(later)

    saved = later.checkpoint(saving.id, state={"n": 1}, attempt=1)
    beat = agent.heartbeat(beating.id, attempt=1)
    done = agent.complete(completing.id, result=1, attempt=1)

    assert saved.status is beat.status is Status.FAILED
    assert done.status is Status.COMPLETED  # what is done is done
    told = here.executions.get(saving.id)
    assert told.state == {"n": 1}
    assert "max_duration_seconds = 60" in (told.prefect.message or "")
    with pytest.raises(ExecutionConflict):
        agent.heartbeat(saving.id, attempt=1)
    later.resume(saving.id)
    with pytest.raises(ExecutionConflict, match="max_duration_seconds"):
        agent.begin(saving.id)
    assert here.name_of(saving) == "Failed"


def test_what_nobody_has_noticed_of_a_death_is_no_active_time(here: Agents) -> None:
    """A restarted agent begins at once, before its silence counts as a crash."""
    execution = here.create(max_duration_seconds=60)
    later = replace(here.executions, clock=lambda: datetime.now(UTC) + timedelta(seconds=1000))

    begun = ExternalAgents(later).begin(execution.id)

    assert begun.prefect.attempt == 2
    assert begun.elapsed_seconds < 60
    assert here.executions.log(execution.id).head().entry.dead_seconds == pytest.approx(
        1000, abs=99
    )
    ExternalAgents(later).begin(execution.id)
    assert here.executions.log(execution.id).head().entry.dead_seconds == pytest.approx(
        1000, abs=99
    )
    assert here.name_of(execution) == "Running"


@pytest.mark.parametrize("act", ["save", "complete"])
def test_who_has_claimed_numbers_and_died_refuses_nothing_to_the_agent(
    here: Agents, act: str
) -> None:
    """The claim comes between the reading of the head and the writing after it."""
    execution = here.create()
    log = here.executions.log(execution.id)
    newest = log.require_newest()
    store = Faulty(log.objects, meanwhile=[lambda: log._take(newest + 1, 1, fence=True)])
    executions = replace(here.executions, objects=store)

    if act == "save":
        executions.checkpoint(execution.id, state={"n": 1}, attempt=1)
    else:
        ExternalAgents(executions).complete(execution.id, state={"n": 1}, attempt=1)

    kinds = [log.read_entries([seq])[seq].kind for seq in log.numbers()][::-1]
    assert kinds[newest + 1 : newest + 3] == [Kind.CLAIM, Kind.CHECKPOINT]
    assert log.head().state == b'{"n":1}'


def test_a_retry_in_the_ui_is_begun_at_once(here: Agents) -> None:
    execution = here.create()
    here.save(execution, {"n": 1})
    here.external.fail(execution.id, error="No disk")
    here.in_the_ui(execution, AwaitingRetry())

    assert here.external.begin(execution.id).state == {"n": 1}


def test_what_a_deployment_runs_is_not_an_agent_s_to_report_on(here: Agents) -> None:
    flow_id = here.prefect.create_flow_from_name(f"flow-{uuid4().hex}")
    deployment = here.prefect.create_deployment(flow_id, "idle", tags=["execution"])
    execution, _ = Creation(here.executions).create(name="a", deployment=str(deployment))
    here.in_the_ui(execution, Running())

    for report in (
        lambda: here.external.begin(execution.id),
        lambda: here.external.heartbeat(execution.id, 0),
        lambda: here.external.complete(execution.id),
        lambda: here.external.fail(execution.id, error="no"),
    ):
        with pytest.raises(ExecutionConflict, match="A deployment runs it"):
            report()


def test_it_is_deleted_without_a_process_to_wait_for(here: Agents) -> None:
    execution = here.create()

    assert here.executions.delete(execution.id, patience=0)
    assert here.flow_runs.find(UUID(execution.id[5:])) is None
