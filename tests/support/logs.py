"""Logs, states and records for the tests of the log."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head

ID = "exec_0123456789abcdef0123456789abcdef"
META = {"name": "a task", "config": {}}
START = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def numbered(number: int) -> bytes:
    """A state with a number."""
    return json.dumps({"n": number, "text": "some words that stay"}).encode()


def filled(log: ExecutionLog, checkpoints: int) -> Head:
    """A log with an attempt that has saved so many checkpoints; entry 2 has state 1."""
    log.create(META, b"{}")
    head = log.attempt()
    for number in range(1, checkpoints + 1):
        head = log.checkpoint(head, numbered(number), label=f"number {number}")
    return head


def call(order: int, *, minute: int | None = None, outcome: Outcome = Outcome.DONE) -> Record:
    """A call that can be undone; another one with the same order ends in another minute."""
    return Record(
        order=order,
        parent=0,
        key=f"key of {order}",
        step="a step",
        at=START + timedelta(minutes=order if minute is None else minute),
        outcome=outcome,
        undo=True,
        result=b'"result of %d"' % order,
    )


def step_after(head: Head) -> Record:
    """A step that is recorded after a head."""
    return Record(
        order=head.entry.seq,
        parent=0,
        key="key",
        step="step",
        at=head.entry.at,
        outcome=Outcome.DONE,
        result=b"1",
    )


def large(size: int, order: int = 1) -> Record:
    """A call with a result that has so many bytes when it is compressed."""
    result = json.dumps(random.Random(order).randbytes(size).hex()).encode()
    return replace(call(order), result=result)


def assert_linear(entries: list[Entry]) -> None:
    """The numbers have no gap, and no attempt writes after a later one, or after a roll-back."""
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    assert entries[-1].kind is not Kind.CLAIM
    entries = [entry for entry in entries if entry.kind is not Kind.CLAIM]
    fenced = 0
    for before, entry in pairwise(entries):
        if entry.kind is Kind.ATTEMPT:
            assert entry.attempt == before.attempt + 1
            assert entry.source == before.continues_from
        else:
            assert entry.attempt == before.attempt
        fenced = max(fenced, entry.attempt)
        assert entry.attempt == fenced
