"""Several executions at once, disturbed by a schedule, then left alone until they end."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from time import monotonic, sleep
from typing import TypeVar

import httpx
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType

from chaos import evidence
from chaos.cluster import Cluster, FlowProcess
from chaos.evidence import Evidence
from chaos.schedule import Action, Turn
from prefect_executions.errors import ExecutionError
from prefect_executions.ids import checkpoint_id, execution_id
from prefect_executions.local import Process
from prefect_executions.prefect.states import state_of
from world import is_alive

T = TypeVar("T")

LAWS = {
    "lost": evidence.lost,
    "split": evidence.split,
    "misled": evidence.misled,
    "repeated": evidence.repeated,
    "refetched": evidence.refetched,
}
LAWS_OF_ALL = ("undeleted", "stranded", "forked", "exceeded", "slots")
TARGET_PATIENCE = 60.0  # how long a round waits for a target
# How long executions may take to end by themselves. Where a deployment with a limit is deleted,
# Prefect refuses for five minutes each change of state of its runs.
END_PATIENCE = 700.0
REMOVED = 90.0  # how long a supervisor may take to remove the log of a run that Prefect has removed
EDIT_PATIENCE = 60.0  # how long a process may take to leave before a person corrects the state
FROZEN = 20.0  # longer than the 10 s of silence after which a run counts as crashed
FROZEN_PATIENCE = 60.0  # how long another process may take to begin, before this one goes on


@dataclass(frozen=True)
class Later:
    """An act that is due at a later time.

    Args:
        deadline: When it is due at the latest.
        is_due: Whether it is due already.
        act: Does it.
    """

    deadline: float
    is_due: Callable[[], bool]
    act: Callable[[], object]


@dataclass
class Outcome:
    """What happened in a schedule.

    Args:
        counts: How often each thing happened, by its name.
        broken: For each broken law, what is wrong.
    """

    counts: Counter[str] = field(default_factory=Counter)
    broken: dict[str, list[str]] = field(
        default_factory=lambda: {law: [] for law in (*LAWS, *LAWS_OF_ALL)}
    )

    @property
    def is_good(self) -> bool:
        """Whether every law was kept."""
        return not any(self.broken.values())

    def __str__(self) -> str:
        names = ("kills", "overlaps")
        first = [f"{name}={self.counts[name]}" for name in names]
        laws = [f"{law}={len(what)}" for law, what in self.broken.items()]
        rest = [f"{name}={n}" for name, n in sorted(self.counts.items()) if name not in names]
        return " ".join(first + laws + rest)


class Chaos:
    """Disturbs executions.

    Args:
        cluster: Where they run.
        seed: Decides what they do.
        executions: How many there are at once.
        steps: How many steps each takes.
        report: Gets a line for each act.
        total: How many there are in all; by default as many as fit into the schedule.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        seed: int,
        executions: int,
        steps: int,
        report: Callable[[str], object],
        total: int | None = None,
    ) -> None:
        self._cluster = cluster
        self._seeds = Random(f"{seed} executions")
        self._many = executions
        self._steps = steps
        self._report = report
        self._began = monotonic()
        self._created = 0
        self._total = total
        self._made: set[str] = set()
        self._cancelled: set[str] = set()
        self._deleted: set[str] = set()
        self._forks: dict[str, str] = {}  # by the executions that they continue
        self._edits: defaultdict[str, list[str]] = defaultdict(list)  # the checkpoints of each
        self._breaches: list[tuple[str, str]] = []  # laws that are broken as it goes on, and how
        self._later: list[Later] = []
        self._frozen: set[int] = set()
        self.counts: Counter[str] = Counter()
        self._actions: dict[Action, Callable[[Turn], str | None]] = {
            Action.KILL_FLOW: lambda turn: self._strike_flow(turn, SIGKILL),
            Action.TERM_FLOW: lambda turn: self._strike_flow(turn, SIGTERM),
            Action.FREEZE_FLOW: self._freeze_flow,
            Action.TERM_WORKER: lambda turn: self._strike_worker(turn, SIGTERM),
            Action.KILL_WORKER: lambda turn: self._strike_worker(turn, SIGKILL),
            Action.KILL_WORKER_AND_FLOWS: self._kill_worker_and_flows,
            Action.PAUSE_RESUME: self._pause_resume,
            Action.PAUSE_RESUME_FROZEN: self._pause_resume_frozen,
            Action.PAUSE_WAIT_RESUME: self._pause_wait_resume,
            Action.ROLL_BACK: self._roll_back,
            Action.FORK: self._fork,
            Action.EDIT: self._edit,
            Action.CANCEL: self._cancel,
            Action.DELETE: self._delete,
            Action.RENAME_DEPLOYMENT: self._rename_deployment,
            Action.REPLACE_DEPLOYMENT: self._replace_deployment,
            Action.KILL_POOL: self._kill_pool,
            Action.KILL_SUPERVISOR: self._kill_supervisor,
            Action.RESTART_S3: lambda _: self._restart_s3(),
            Action.RESTART_PREFECT: lambda _: self._restart_prefect(),
        }

    def run(self, rounds: Iterable[Turn]) -> Outcome:
        """Do all rounds, wait until the executions have ended, and check the laws."""
        for turn in rounds:
            self._tend(turn.after, create=True)
            self._act(turn)
        self._report("The schedule is over; now all may end.")
        self._let_end()
        return self._judge()

    # ------------------------------------------------------------------ going on

    def _tend(self, seconds: float, *, create: bool) -> list[FlowRun]:
        """Act as an operator for some time: start new executions, and resume idle ones."""
        deadline = monotonic() + seconds
        while True:
            for process in self._cluster.revive():
                self._report(f"{process.name} had ended by itself; started again")
                self.counts["ended_by_themselves"] += 1
            self._do_later()
            self._look_at_limits()
            runs = self._living()
            if create:
                self._create(self._many - len(runs))
            if monotonic() >= deadline:
                return runs
            sleep(min(0.5, max(0.0, deadline - monotonic())))

    def _do_later(self) -> None:
        now = monotonic()
        due = [it for it in self._later if now > it.deadline or it.is_due()]
        self._later = [it for it in self._later if it not in due]
        for it in due:
            it.act()

    def _look_at_limits(self) -> None:
        limit = self._cluster.deployments.limit
        if limit is not None:
            with suppress(httpx.HTTPError):  # Prefect is away
                taking = self._cluster.deployments.taking_slots()
                taken = Counter(run.deployment_id for run in taking)
                self.counts["full"] += limit in taken.values()
                self._breaches += [("exceeded", it) for it in evidence.exceeded(taking, limit)]

    def _living(self) -> list[FlowRun]:
        """The flow runs of the executions that have not ended; a crashed one has not."""
        return [run for run in self._runs() if not self._is_over(run)]

    def _is_over(self, run: FlowRun) -> bool:
        """Whether nothing becomes of an execution any more.

        One that is being deleted has ended when it is gone; one whose deployment is gone, when
        there is a fork of it.
        """
        execution, type_ = execution_id(run.id), state_of(run).type
        if execution in self._deleted:
            return False
        if execution in self._forks:
            return True
        if self._is_stranded(run):
            return False
        return type_ in (StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED)

    def _is_stranded(self, run: FlowRun) -> bool:
        """Whether only a fork continues an execution, since its deployment is gone."""
        state = state_of(run)
        ended = state.is_failed() or (state.is_cancelled() and not self._is_cancelled(run))
        return self._cluster.deployments.has_lost(run) and (state.is_paused() or ended)

    def _runs(self) -> list[FlowRun]:
        """All flow runs of executions, in the order of their ids."""
        deadline = monotonic() + TARGET_PATIENCE
        while True:
            try:
                return sorted(self._list(), key=lambda run: run.id)
            except httpx.HTTPError as away:
                if monotonic() > deadline:
                    raise
                self._report(f"Prefect is away, trying again: {away}")
                sleep(1)

    def _list(self) -> list[FlowRun]:
        tags = FlowRunFilter(tags=FlowRunFilterTags(all_=["execution"]))
        found: list[FlowRun] = []
        while page := self._cluster.prefect.read_flow_runs(
            flow_run_filter=tags, limit=200, offset=len(found)
        ):
            found += page
        return found

    def _create(self, many: int) -> None:
        left = many if self._total is None else self._total - self._created
        for _ in range(min(many, left)):
            self._created += 1
            names = self._cluster.deployments.names
            deployment = names[self._created % len(names)]
            parameters = {"seed": self._seeds.randrange(1_000_000), "steps": self._steps}
            name = f"chaos {self._created}"
            with suppress(ExecutionError):  # when it is half made, a supervisor finishes it
                self._made.add(self._cluster.create(name, deployment, parameters))

    def _let_end(self) -> None:
        while self._total is not None and self._created < self._total:
            self._resume_idle(self._tend(1, create=True))
        deadline = monotonic() + END_PATIENCE
        while ((runs := self._tend(1, create=False)) or self._later) and monotonic() < deadline:
            self._resume_idle(runs)

    def _resume_idle(self, runs: list[FlowRun]) -> None:
        """Resume the executions that nothing else resumes."""
        for run in runs:
            if self._is_stranded(run) and execution_id(run.id) not in self._deleted:
                self._continue(run)
            elif state_of(run).is_paused():
                self._resume(execution_id(run.id))

    def _continue(self, run: FlowRun) -> None:
        """Continue an execution whose deployment is gone: a resume is refused, a fork goes on."""
        execution, deployments = execution_id(run.id), self._cluster.deployments
        try:
            self._cluster.resume(execution, None)
        except ExecutionError as refusal:
            self.counts["refused"] += "deployment" in f"{refusal}"
        else:
            self._breaches.append(("stranded", f"{execution} was resumed, and no worker runs it"))
        with suppress(ExecutionError):  # it is tried again
            name = deployments.names[deployments.number_of(run)]
            fork = self._forks[execution] = self._cluster.fork(execution, name)
            self._made.add(fork)
            self._report(f"{execution} has lost its deployment, and goes on as {fork} of {name}")
            self.counts["forks"] += 1

    # ------------------------------------------------------------------ actions

    def _act(self, turn: Turn) -> None:
        """Do a round as soon as it has a target."""
        deadline = monotonic() + TARGET_PATIENCE
        while (done := self._try(turn)) is None and monotonic() < deadline:
            self._tend(0.2, create=True)
        at = monotonic() - self._began
        self._report(
            f"{at:7.1f} s, {self.counts['kills']} kills; round {turn.number}: {turn.action}: "
            f"{done or 'found nothing to do it to'}"
        )

    def _try(self, turn: Turn) -> str | None:
        try:
            return self._actions[turn.action](turn)
        except ExecutionError as refusal:
            return f"refused: {refusal}"

    def _strike_flow(self, turn: Turn, by: Signals) -> str | None:
        """Strike a flow process, but no frozen one: it has to go on after another one took over."""
        awake = [p for p in self._cluster.flow_processes() if p.pid not in self._frozen]
        process = _choose(awake, turn.target)
        if process is None or not process.send(by):
            return None
        self.counts["kills"] += 1
        return f"{process.execution} pid {process.pid}"

    def _freeze_flow(self, turn: Turn) -> str | None:
        """Freeze a process; most go on only after another process runs the execution."""
        process = _choose(self._busy(), turn.target)
        if process is None:
            return None
        self._freeze(process, until_another_begins=turn.draw > 0.3)
        return f"{process.execution} pid {process.pid}"

    def _freeze(self, process: FlowProcess, *, until_another_begins: bool) -> None:
        begun = len(self._begun(process.execution))

        def another_begins() -> bool:
            return until_another_begins and len(self._begun(process.execution)) > begun

        if process.send(SIGSTOP):
            self.counts["frozen"] += 1
            self._frozen.add(process.pid)
            deadline = monotonic() + (FROZEN_PATIENCE if until_another_begins else FROZEN)
            self._later.append(Later(deadline, another_begins, lambda: self._thaw(process)))

    def _thaw(self, process: FlowProcess) -> None:
        process.send(SIGCONT)
        self._frozen.discard(process.pid)

    def _begun(self, execution: str) -> list[int]:
        """The processes that are running an execution already."""
        lines = evidence.ledger(self._cluster.data, execution)
        return [line["pid"] for line in lines if line["kind"] == "begin"]

    def _strike_worker(self, turn: Turn, by: Signals) -> str | None:
        """Send a worker a signal; the flow processes that end with it count as killed."""
        worker = self._worker(turn)
        if worker is None:
            return None
        flows = self._flows_of(worker)
        self._end(worker, by)
        killed = [process for process in flows if not is_alive(process.pid)]
        self._count_killed(killed)
        return f"{len(killed)} of its {len(flows)} flow processes end"

    def _kill_worker_and_flows(self, turn: Turn) -> str | None:
        worker = self._worker(turn)
        if worker is None:
            return None
        flows = self._flows_of(worker)
        self._end(worker, SIGKILL)
        self._count_killed([process for process in flows if process.send(SIGKILL)])
        return f"{len(flows)} flow processes"

    def _end(self, process: Process, by: Signals) -> None:
        process.stop(by=by)
        process.start()
        self.counts[process.name.split()[-1] + "s"] += 1

    def _count_killed(self, processes: list[FlowProcess]) -> None:
        """Count one process for each execution: Prefect may start a process that starts it."""
        self.counts["kills"] += len({process.execution for process in processes})

    def _pause_resume(self, turn: Turn) -> str | None:
        run = self._running(turn)
        if run is None:
            return None
        return self._pause(run) and self._resume(run)

    def _pause_resume_frozen(self, turn: Turn) -> str | None:
        """The frozen process goes on when there is another one."""
        process = _choose(self._busy(), turn.target)
        if process is None:
            return None
        self._freeze(process, until_another_begins=True)
        return self._pause(process.execution) and self._resume(process.execution)

    def _pause_wait_resume(self, turn: Turn) -> str | None:
        run = self._running(turn)
        if run is None or not self._pause(run):
            return None
        deadline = monotonic() + 10 * turn.draw
        self._later.append(Later(deadline, lambda: False, lambda: self._resume(run)))
        return run

    def _roll_back(self, turn: Turn) -> str | None:
        """Roll back to any checkpoint, or to the beginning."""
        execution = self._running(turn)
        if execution is None or not self._pause(execution):
            return None
        target = self._any_checkpoint(execution, turn)
        self.counts["rollbacks"] += 1
        return self._resume(execution, to=target)

    def _fork(self, turn: Turn) -> str | None:
        """Fork an execution at any checkpoint, or at the beginning; both go on."""
        execution = self._running(turn)
        if execution is None:
            return None
        start = checkpoint_id(self._any_checkpoint(execution, turn))
        fork = self._cluster.fork_at(execution, start)
        self._made.add(fork)
        self.counts["branches"] += 1
        return f"{execution} at {start} as {fork}"

    def _edit(self, turn: Turn) -> str | None:
        """Pause, correct the state when the process has left, and resume."""
        execution = self._running(turn)
        if execution is None or not self._pause(execution):
            return None

        def is_edited() -> bool:
            with suppress(ExecutionError):  # its process has not left yet, or servers are away
                self._edits[execution].append(self._cluster.edit(execution))
                self.counts["edits"] += 1
                return True
            return False

        deadline = monotonic() + EDIT_PATIENCE
        self._later.append(Later(deadline, is_edited, lambda: self._resume(execution)))
        return execution

    def _cancel(self, turn: Turn) -> str | None:
        execution = self._running(turn)
        if execution is not None:
            self._cluster.cancel(execution)
            self._cancelled.add(execution)
            self.counts["cancelled"] += 1
        return execution

    def _delete(self, turn: Turn) -> str | None:
        """Delete any execution: one that runs, is paused, waits for a slot or has no deployment."""
        living = [execution_id(run.id) for run in self._living()]
        execution = _choose([it for it in living if it not in self._deleted], turn.target)
        if execution is not None:
            self._deleted.add(execution)
            self.counts["deleted"] += 1
            self._delete_surely(execution)
        return execution

    def _delete_surely(self, execution: str) -> None:
        """Delete; when that is refused, try again later."""
        try:
            self._cluster.delete(execution)
        except ExecutionError as error:
            if execution in {execution_id(run.id) for run in self._runs()}:
                self._report(f"not deleted: {error}")
                again = Later(
                    monotonic() + 3, lambda: False, lambda: self._delete_surely(execution)
                )
                self._later.append(again)

    def _rename_deployment(self, turn: Turn) -> str | None:
        """Pause an execution, and rename its deployment."""
        run = _choose([run for run in self._working() if state_of(run).is_running()], turn.target)
        if run is None or not self._pause(execution_id(run.id)):
            return None
        deployments = self._cluster.deployments
        name = deployments.rename(deployments.number_of(run))
        self.counts["renamed"] += 1
        return f"that of {execution_id(run.id)} is {name} now"

    def _replace_deployment(self, turn: Turn) -> str | None:
        """Delete a deployment, deploy it anew, and kill a process that was running it."""
        run = _choose([run for run in self._working() if state_of(run).is_running()], turn.target)
        if run is None:
            return None
        deployments, execution = self._cluster.deployments, execution_id(run.id)
        name = deployments.replace(deployments.number_of(run))
        self.counts["replaced"] += 1
        found = [it for it in self._cluster.flow_processes() if it.execution == execution]
        self._count_killed([it for it in found if it.pid not in self._frozen and it.send(SIGKILL)])
        return f"{name}, which ran {execution}; {len(found)} processes of that"

    def _working(self) -> list[FlowRun]:
        """The runs that go on, and have their deployment."""
        living = [run for run in self._living() if execution_id(run.id) not in self._deleted]
        return [run for run in living if not self._cluster.deployments.has_lost(run)]

    def _kill_pool(self, turn: Turn) -> str | None:
        worker = self._worker(turn)
        if worker is None:
            return None
        pool = self._cluster.workers_beside(worker)
        flows = [process for each in pool for process in self._flows_of(each)]
        for each in pool:
            each.kill()
        self._count_killed([process for process in flows if process.send(SIGKILL)])
        for each in pool:
            each.start()
        self.counts["pools"] += 1
        return f"{len(pool)} workers, {len(flows)} flow processes"

    def _kill_supervisor(self, turn: Turn) -> str | None:
        supervisor = _choose(self._cluster.supervisors, turn.target)
        assert supervisor is not None
        self._end(supervisor, SIGKILL)
        return supervisor.log.name

    def _restart_s3(self) -> str | None:
        self._cluster.restart_s3()
        self.counts["s3_restarts"] += 1
        return "it is back"

    def _restart_prefect(self) -> str | None:
        self._cluster.restart_prefect()
        self.counts["prefect_restarts"] += 1
        return "it is back"

    # ------------------------------------------------------------------ what they are made of

    def _pause(self, execution: str) -> str | None:
        """Pause an execution if it is not too late, and return it."""
        try:
            self._cluster.pause(execution)
        except ExecutionError as error:
            self._report(f"not paused: {error}")
            return None
        self.counts["pauses"] += 1
        return execution

    def _resume(self, execution: str, *, to: int | None = None) -> str:
        """Resume an execution; if that fails now, try again at the end."""
        target = None if to is None else checkpoint_id(to)
        try:
            self._cluster.resume(execution, target)
        except ExecutionError as error:
            return f"{execution} is not resumed: {error}"
        return execution if to is None else f"{execution} to {target}"

    def _running(self, turn: Turn) -> str | None:
        """A run that can be paused and resumed: it is running, and has its deployment."""
        run = _choose([run for run in self._working() if state_of(run).is_running()], turn.target)
        return None if run is None else execution_id(run.id)

    def _busy(self) -> list[FlowProcess]:
        """The flow processes that are taking steps."""
        found = self._cluster.flow_processes()
        return [
            process
            for process in found
            if process.pid not in self._frozen and process.pid in self._begun(process.execution)
        ]

    def _worker(self, turn: Turn) -> Process | None:
        """A worker that has something to do."""
        return _choose([it for it in self._cluster.workers if self._flows_of(it)], turn.target)

    def _flows_of(self, worker: Process) -> list[FlowProcess]:
        found = self._cluster.flow_processes()
        ancestors = {worker.pid, *(p.pid for p in found if p.parent == worker.pid)}
        return [process for process in found if process.parent in ancestors]

    def _any_checkpoint(self, execution: str, turn: Turn) -> int:
        """Any checkpoint of an execution, or its beginning."""
        history = self._cluster.executions.log(execution).read(checkpoints=None)
        numbers = [0, *(entry.seq for entry in history.checkpoints())]
        return numbers[int(turn.draw * len(numbers))]

    def _is_cancelled(self, run: FlowRun) -> bool:
        return execution_id(run.id) in self._cancelled and state_of(run).is_cancelled()

    # ------------------------------------------------------------------ judging

    def _judge(self) -> Outcome:
        outcome = Outcome(self.counts)
        for law, breach in self._breaches:
            outcome.broken[law].append(breach)
        runs = self._runs()
        known = {execution_id(run.id) for run in runs}
        self._judge_the_gone(outcome, known)
        outcome.counts["executions"] = len(runs)
        found: dict[str, Evidence] = {}
        for run in runs:
            execution = execution_id(run.id)
            if execution in self._deleted:
                continue
            try:
                log = self._cluster.executions.log(execution)
                found[execution] = Evidence.of(run, log, self._cluster.data)
            except ExecutionError as unreadable:
                outcome.broken["lost"].append(f"{execution}: {unreadable}")
                continue
            # These must not have a result.
            goes_on = execution not in self._forks and not self._is_cancelled(run)
            self._judge_one(outcome, found[execution], goes_on=goes_on)
        for fork in [it for it in found.values() if it.origin and it.origin[0] in found]:
            assert fork.origin is not None
            what = evidence.forked(fork, found[fork.origin[0]])
            outcome.broken["forked"] += [f"{fork.execution}: {it}" for it in what]
        if not self._living():
            outcome.broken["slots"] += self._cluster.deployments.slots_taken()
        return outcome

    def _judge_the_gone(self, outcome: Outcome, known: set[str]) -> None:
        """Judge the executions that Prefect does not know: nothing of them is left.

        With a deployment Prefect removes those of its runs that have never begun.
        """
        gone = self._made - known - self._deleted
        begun = {file.stem for file in self._cluster.data.glob("*.ledger")} - known - self._deleted
        if not self._cluster.deployments.were_changed:
            begun |= gone
        outcome.broken["lost"] += [f"{id_}: Prefect does not know it any more" for id_ in begun]
        outcome.counts["gone"] = len(gone - begun)
        deadline = monotonic() + REMOVED
        for id_ in self._deleted | gone - begun:
            log = self._cluster.executions.log(id_)
            while (left := list(log.numbers())) and id_ in gone and monotonic() < deadline:
                sleep(1)
            if left or id_ in known or not self._cluster.is_gone(id_):
                what = f"{id_}: entries {left}; run: {id_ in known}"
                outcome.broken["undeleted"].append(what)

    def _judge_one(self, outcome: Outcome, found: Evidence, *, goes_on: bool) -> None:
        for law, breaches in LAWS.items():
            if law != "misled" or goes_on:
                outcome.broken[law] += [f"{found.execution}: {what}" for what in breaches(found)]
        unedited = evidence.unedited(found, self._edits[found.execution])
        outcome.broken["lost"] += [f"{found.execution}: {what}" for what in unedited]
        outcome.counts["overlaps"] += evidence.overlaps(found)
        outcome.counts["attempts"] += len(found.begun)
        outcome.counts["acknowledged"] += len(found.lines("ack"))


def _choose(among: list[T], where: float) -> T | None:
    return among[int(where * len(among))] if among else None
