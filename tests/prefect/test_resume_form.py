"""The Resume form: what a person reads before a roll-back, and its log after it."""

from dataclasses import replace

from conftest import Clock
from logs import ID, call
from prefect_executions.log.journal import Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.resume_form import CHOICES, go_back, resume_form
from prefect_executions.storage.objects import MemoryObjects


def steps(first: int, *names: str, undo: bool = False) -> list[Record]:
    return [
        replace(call(first + at), step=name, undo=undo, key=f"{name} {first + at}")
        for at, name in enumerate(names)
    ]


def log_of_steps(memory: MemoryObjects, clock: Clock) -> ExecutionLog:
    """58 calls after the first of two checkpoints, two of which can be undone."""
    log = ExecutionLog(memory, ID, clock=clock)
    log.create({"name": "a task"}, b"{}")
    head = log.checkpoint(log.attempt(), b'{"n": 1}', label="one")
    head = log.record(head, [*steps(1, *["fetch", "parse"] * 28), *steps(57, "charge", undo=True)])
    head = log.record(head, steps(58, "charge", undo=True))
    log.checkpoint(head, b'{"n": 2}', label="two")
    return log


def test_the_form_counts_the_steps_after_each_checkpoint(
    memory: MemoryObjects, clock: Clock
) -> None:
    log = log_of_steps(memory, clock)

    form = resume_form(log.read(checkpoints=CHOICES, journal=True))

    said = "2 × charge will be undone; 28 × parse, 28 × fetch will not be undone"
    assert form.description == (
        "Continue from the latest state, or roll back to an earlier checkpoint. "
        "These steps have happened after each:"
        f"\n\n* `ckpt_000002`: {said}"
    )


def test_a_form_without_steps_speaks_of_none(memory: MemoryObjects, clock: Clock) -> None:
    log = ExecutionLog(memory, ID, clock=clock)
    log.create({"name": "a task"}, b"{}")
    log.checkpoint(log.attempt(), b'{"n": 1}')

    form = resume_form(log.read(checkpoints=CHOICES, journal=True))

    assert form.description == (
        "Continue from the latest state, or roll back to an earlier checkpoint."
    )


def test_the_log_of_the_run_says_the_same(memory: MemoryObjects, clock: Clock) -> None:
    said: list[str] = []

    log = log_of_steps(memory, clock)
    answer = {"checkpoint": "ckpt_000002 · one", "reason": " It lost a source. "}
    go_back(log, answer, said.append)

    assert log.head().entry.reason == "It lost a source."
    assert said == [
        "Resumed, with the reason: It lost a source.",
        "Going back to ckpt_000002.",
        "The steps after ckpt_000002 have happened: "
        "2 × charge will be undone; 28 × parse, 28 × fetch will not be undone.",
    ]
