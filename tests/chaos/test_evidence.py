"""The laws that judge chaos find the faults that they exist for."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Running

from chaos.evidence import (
    Evidence,
    Line,
    exceeded,
    forked,
    lost,
    misled,
    overlaps,
    refetched,
    repeated,
    split,
    unedited,
)
from chaos.tasks import EDITED, Step, Work, undisturbed
from prefect_executions.ids import checkpoint_id, execution_id
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.storage.objects import MemoryObjects

SEED, STEPS = 7, 4
Law = Callable[[Evidence], Iterable[str]]


class Recorder:
    """Acts as the processes of a flow do, and keeps the ledger."""

    def __init__(self, log: ExecutionLog) -> None:
        self.log = log
        self.lines: list[Line] = []

    def begin(self) -> tuple[Head, Work]:
        head = self.log.attempt()
        work = Work.model_validate_json(head.state)
        self.write("begin", head, step=work.n)
        return head, work

    def take(self, head: Head, work: Work) -> None:
        step = Step.of(SEED, work.n + 1)
        self.write("effect", head, step=step.n)
        work.take(step, head.entry.attempt)

    def save(self, head: Head, work: Work) -> Head:
        label = f"step {work.n}"
        head = self.log.checkpoint(head, work.model_dump_json().encode(), label=label)
        checkpoint = checkpoint_id(head.entry.seq)
        self.write(
            *("ack", head),
            step=work.n,
            checkpoint=checkpoint,
            label=label,
            fingerprint=work.fingerprint,
        )
        return head

    def write(self, kind: str, head: Head, **facts: Any) -> None:
        attempt = head.entry.attempt
        self.lines.append({"kind": kind, "attempt": attempt, "pid": 100 + attempt, **facts})


@pytest.fixture
def good(memory: MemoryObjects, tmp_path: Path) -> Evidence:
    """Two steps, the second not saved; a crash; all four; a roll-back to the first; all again."""
    run = FlowRun(
        id=uuid4(),
        flow_id=uuid4(),
        parameters={"seed": SEED, "steps": STEPS},
        state=Completed(),
    )
    log = ExecutionLog(memory, execution_id(run.id))
    log.create({}, b"{}")
    recorder = Recorder(log)
    head, work = recorder.begin()
    recorder.take(head, work)
    first = head = recorder.save(head, work)
    recorder.take(head, work)
    log.retry(head, answers="a crash", reason="SIGKILL")
    for _ in range(2):
        head, work = recorder.begin()
        while work.n < STEPS:
            recorder.take(head, work)
            head = recorder.save(head, work)
        recorder.write("result", head, step=work.n, digest=work.digest)
        if head.entry.attempt == 2:
            log.rollback(first.entry.seq)
    ledger = "".join(json.dumps(line) + "\n" for line in recorder.lines)
    (tmp_path / f"{log.execution_id}.ledger").write_text(ledger)
    return Evidence.of(run, log, tmp_path)


def test_a_good_history_breaks_no_law(good: Evidence) -> None:
    assert [*lost(good), *split(good), *misled(good), *repeated(good)] == []
    assert overlaps(good) == 0


def test_a_claim_that_is_left_ahead_breaks_no_law(
    good: Evidence, memory: MemoryObjects, tmp_path: Path
) -> None:
    log = ExecutionLog(memory, good.execution)
    newest = log.require_newest()
    log._take(newest + 3, attempt=9, fence=True)

    run = FlowRun(id=uuid4(), flow_id=uuid4(), parameters=dict(good.parameters), state=Completed())
    again = Evidence.of(run, log, tmp_path)

    assert [*again.entries] == [*range(newest + 1), newest + 3]
    assert [*lost(again), *split(again)] == []
    assert [*split(replace(again, keys=again.keys + 1))]


def _without(good: Evidence, seq: int) -> Evidence:
    return replace(good, entries={n: entry for n, entry in good.entries.items() if n != seq})


def _with_entry(good: Evidence, seq: int, **fields: Any) -> Evidence:
    return replace(good, entries={**good.entries, seq: replace(good.entries[seq], **fields)})


def _with_state(good: Evidence, seq: int, **fields: Any) -> Evidence:
    return replace(good, states={**good.states, seq: good.states[seq].model_copy(update=fields)})


def _with_line(good: Evidence, at: int, **facts: Any) -> Evidence:
    line = {**good.ledger[at - 1], **facts}
    return replace(good, ledger=[*good.ledger[:at], line, *good.ledger[at:]])


# Entries: 0 created, 1 attempt, 2 checkpoint, 3 retry, 4 attempt, 5 6 7 checkpoints, 8 roll-back …
BREACHES: dict[str, tuple[Law, Callable[[Evidence], Evidence]]] = {
    "an acknowledged checkpoint is missing": (lost, lambda good: _without(good, 6)),
    "it has another label": (lost, lambda good: _with_entry(good, 6, label="step 9")),
    "it has another state": (lost, lambda good: _with_state(good, 6, digest="another")),
    "a number is missing": (split, lambda good: _without(good, 6)),
    "an older attempt saves": (split, lambda good: _with_entry(good, 6, attempt=1)),
    "an attempt is left out": (split, lambda good: _with_entry(good, 4, attempt=3)),
    "one saves behind its retry": (
        split,
        lambda good: _with_entry(good, 4, kind=good.entries[2].kind, attempt=1),
    ),
    "a step is another's": (split, lambda good: _with_state(good, 6, by=[1, 1, 2])),
    "a correction is taken back": (split, lambda good: _with_state(good, 6, edits=1)),
    "a correction changes more than it says": (
        split,
        lambda good: _with_entry(_with_state(good, 6, edits=1, n=9), 6, label=EDITED),
    ),
    "notes are another's": (split, lambda good: _with_state(good, 6, notes=["another"] * 3)),
    "an attempt alters the state": (split, lambda good: _with_state(good, 4, n=0, by=[])),
    "a roll-back alters the state": (split, lambda good: _with_state(good, 8, digest="another")),
    "it has failed": (misled, lambda good: replace(good, status="Failed")),
    "the result is another": (misled, lambda good: _with_state(good, 12, digest="another")),
    "the end is missing": (misled, lambda good: replace(good, states={0: undisturbed(SEED, 3)})),
    "a process returned another": (
        misled,
        lambda good: _with_line(good, 1, kind="result", digest="another"),
    ),
    "an attempt repeats its own step": (repeated, lambda good: _with_line(good, 4)),
    "an attempt begins elsewhere": (repeated, lambda good: _with_line(good, 5, step=0)),
    "two processes are one attempt": (repeated, lambda good: _with_line(good, 4, pid=1)),
    "an unknown attempt takes steps": (repeated, lambda good: _with_line(good, 4, attempt=9)),
    "a saved step is repeated": (repeated, lambda good: _with_line(good, 4, attempt=2, step=1)),
    "the state tells of a step not taken": (
        repeated,
        lambda good: _with_state(good, 12, by=[1, 3, 3, 1]),
    ),
}


@pytest.mark.parametrize(("law", "breach"), BREACHES.values(), ids=[*BREACHES])
def test_a_law_notices(good: Evidence, law: Law, breach: Callable[[Evidence], Evidence]) -> None:
    assert [*law(breach(good))]


def test_an_attempt_that_goes_on_beside_a_later_one_is_an_overlap(good: Evidence) -> None:
    assert overlaps(_with_line(good, 6, attempt=1)) == 1


def _fetching(good: Evidence, *lines: tuple[str, int, int]) -> Evidence:
    ledger = [{"kind": kind, "attempt": attempt, "step": step} for kind, attempt, step in lines]
    return replace(good, ledger=ledger)


def test_a_recorded_step_that_is_run_again_is_noticed(good: Evidence) -> None:
    again = _fetching(good, ("fetch", 1, 2), ("fetched", 1, 2), ("fetch", 2, 2))
    assert [*refetched(again)]
    assert [*refetched(_fetching(good, ("fetched", 1, 2), ("fetch", 1, 2)))]


def test_a_step_that_was_not_recorded_or_is_forgotten_may_run_again(good: Evidence) -> None:
    """The roll-back between attempts 2 and 3 goes back to step 1."""
    allowed = [("fetch", 1, 2), ("fetch", 2, 2), ("fetched", 2, 2), ("fetch", 3, 2)]
    assert [*refetched(_fetching(good, *allowed))] == []
    assert [*refetched(_fetching(good, ("fetched", 2, 1), ("fetch", 3, 1)))]


def _fork(of: Evidence, at: int, **facts: Any) -> Evidence:
    """A fork of an execution at an entry, which has not begun, a minute after the origin's end."""
    entry = replace(of.entries[0], at=of.entries[max(of.entries)].at + timedelta(seconds=60))
    fork = replace(
        of,
        entries={0: entry},
        states={0: of.states[at]},
        keys=1,
        ledger=[],
        origin=(of.execution, checkpoint_id(at)),
    )
    return replace(fork, **facts)


def test_a_correction_that_is_missing_is_noticed(good: Evidence) -> None:
    edited = _with_entry(good, 6, label=EDITED)

    assert [*unedited(edited, [checkpoint_id(6)])] == []
    assert [*unedited(edited, [checkpoint_id(7)])]


def test_a_fork_that_continues_from_its_checkpoint_breaks_no_law(good: Evidence) -> None:
    fork = _fork(good, 7)

    assert [*forked(fork, good), *lost(fork), *split(fork), *repeated(fork)] == []
    assert [*forked(_fork(good, 7, states={0: good.states[6]}), good)]
    assert [*forked(_fork(good, 7, origin=(good.execution, checkpoint_id(99))), good)]


def test_a_fork_that_takes_a_recorded_step_again_is_noticed(good: Evidence) -> None:
    """The roll-back, entry 8, is before attempt 3."""
    at = good.entries[0].at.timestamp()

    def fetched(attempt: int) -> Evidence:
        line = {"kind": "fetched", "attempt": attempt, "step": 4, "at": at}
        return replace(good, ledger=[line])

    again = [{"kind": "fetch", "attempt": 1, "step": 4}]
    assert [*forked(_fork(good, 12, ledger=again), fetched(3))]
    assert [*forked(_fork(good, 12, ledger=again), fetched(2))] == []
    assert [*forked(_fork(good, 7, ledger=again), fetched(2))]
    for later in (10, 120):  # after the checkpoint, and after the fork
        late = replace(good, ledger=[{**fetched(3).ledger[0], "at": at + later}])
        assert [*forked(_fork(good, 12, ledger=again), late)] == []


def test_more_runs_at_once_than_the_limit_are_noticed() -> None:
    one, two = uuid4(), uuid4()

    def running(*deployments: UUID) -> list[FlowRun]:
        return [FlowRun(flow_id=uuid4(), deployment_id=it, state=Running()) for it in deployments]

    assert [*exceeded(running(one, two, one, two), 2)] == []
    assert [*exceeded(running(one, two, one, one), 2)] == [f"3 of 2 runs of {one}"]
