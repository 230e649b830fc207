"""A log that is given away without some of its values is the same log in everything else."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logs import ID, META, call, large
from prefect_executions.errors import ArchiveError, CheckpointNotFound, CorruptEntry
from prefect_executions.log.archive import stored_entries
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import Record, note
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.pruning import prune
from prefect_executions.log.reader import Head
from prefect_executions.log.redaction import RedactedPath, Redaction, Redactor
from prefect_executions.log.repeats import repeated
from prefect_executions.storage.objects import MemoryObjects

SECRET = "4e16 0f17 secret"


def redacted(log: ExecutionLog, *paths: str) -> ExecutionLog:
    """The log as somebody else gets it."""
    other = ExecutionLog(MemoryObjects(), ID)
    redactor = Redactor([RedactedPath(path) for path in paths])
    for seq, data in Redaction(redactor).entries(stored_entries(log)):
        other.objects.create(other.key(seq), data)
    if log.is_pruned():
        other.note_removal()
    return other


def state(n: int, *, size: int = 0) -> bytes:
    people = [{"name": f"{SECRET} {n}", "age": n}, {"name": SECRET, "age": None}]
    return json.dumps({"n": n, "people": people, "text": "words " * size}).encode()


def secret_step(order: int, text: str = SECRET) -> Record:
    result = {"answer": text, "of": [order, True, 1.5]}
    return replace(call(order), called_with=f"text={text!r}", result=json.dumps(result).encode())


def results(log: ExecutionLog, records: Iterable[Record]) -> list[Any]:
    return [json.loads(log.with_result(r).result or b"null") for r in records]


class Writers:
    """Writes a log by what a list of numbers says."""

    def __init__(self) -> None:
        self.log = ExecutionLog(MemoryObjects(), ID)
        self.log.create(META, state(0))
        self.head: Head = self.log.attempt()
        self.calls = 0

    def act(self, what: int) -> None:
        if what < 4:
            self.calls += 1
            records = [secret_step(self.calls)] if what % 2 else []
            text = state(self.calls, size=3000 * (what == 3))
            self.head = self.log.checkpoint(self.head, text, label="done", records=records)
        elif what < 6:
            self.calls += 1
            kept = note(json.dumps({"answer": SECRET}).encode(), by="a step")
            self.head = self.log.record(self.head, [secret_step(self.calls), kept])
        elif what == 6:
            self.calls += 1
            self.head = self.log.record(self.head, [large(1 << 20, self.calls)])
        elif what == 7:
            self.log._claim(self.head.entry.attempt, fence=False)
            self.head = self.log.living_head()
        elif what == 8:
            checkpoints = [*self.head.entry.checkpoints_before()] or [0]
            self.log.rollback(checkpoints[len(checkpoints) // 2])
            self.head = self.log.attempt()
        else:
            self.log.crash(self.head, answers="state", dead_seconds=1, reason="lost")
            self.head = self.log.attempt()


def after(log: ExecutionLog, seq: int) -> Head | None:
    """The log after an entry, if what that is made of is there."""
    try:
        return log.after(seq)
    except (CorruptEntry, CheckpointNotFound):
        return None


def without_parts(entry: Entry) -> Entry:
    """What a header says of an entry, but for what it is made of."""
    return replace(
        entry, state=None, journal=None, repeats=b"", large=(), large_start=0, large_bytes=0
    )


@given(whats=st.lists(st.integers(0, 9), min_size=1, max_size=60), pruned=st.booleans())
def test_it_has_every_entry_and_none_of_the_values(whats: list[int], pruned: bool) -> None:
    writers = Writers()
    for what in whats:
        writers.act(what)
    log = writers.log
    if pruned:
        later = datetime.now(UTC) + timedelta(days=1)
        prune(log, newest=3, labelled=False, also=(), before=later)

    other = redacted(log, "/state/people/*/name")

    assert [*other.numbers()] == [*log.numbers()]
    for seq in log.numbers():
        entry = log.read_entries([seq])[seq]
        if entry.kind is Kind.CLAIM:
            assert other.read_entries([seq])[seq] == entry
            continue
        was, now = after(log, seq), after(other, seq)
        assert (was is None) == (now is None)
        if was is None or now is None:  # it stayed for its header
            continue
        assert without_parts(now.entry) == without_parts(was.entry)
        expected = json.loads(was.state)
        for person in expected["people"]:
            person["name"] = "[redacted]"
        assert json.loads(now.state) == expected
        assert results(other, now.records().values()) == results(log, was.records().values())
        there = repeated(now.entry)
        assert there == {n: other.read_entries([n])[n].beginning() for n in there}
    head = other.checkpoint(other.living_head(), state(1000), records=[call(1000)])
    assert other.head().journal == head.journal


@given(whats=st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_a_path_that_leads_nowhere_changes_no_values_and_says_so(whats: list[int]) -> None:
    writers = Writers()
    for what in whats:
        writers.act(what)

    with pytest.raises(ArchiveError, match="nothing was ever at /state/peple"):
        redacted(writers.log, "/state/peple", "/state/n")


def test_results_lose_what_is_named_wherever_they_are_stored() -> None:
    log = ExecutionLog(MemoryObjects(), ID)
    log.create(META, state(0))
    long = json.dumps({"answer": SECRET, "rest": Random(1).randbytes(1 << 20).hex()}).encode()
    head = log.record(log.attempt(), [replace(call(1), result=long), secret_step(2)])
    checkpoint = log.checkpoint(head, state(1), records=[note(long, by="a step")])
    log.rollback(checkpoint.entry.seq)
    head = log.attempt()
    log.result(head, {"answer": SECRET, "n": 1})

    other = redacted(log, "/results/a step/answer", "/result/answer", "/state")

    found = results(other, other.head().records().values())
    assert [each["answer"] for each in found] == ["[redacted]"] * 3
    assert [each.get("rest") for each in found] == [
        each.get("rest") for each in results(log, log.head().records().values())
    ]
    assert (other.head().entry.meta or {})["result"] == {"answer": "[redacted]", "n": 1}
    nobody = {"name": "[redacted]", "age": 0}
    assert json.loads(other.head().state) == {
        "n": 0,
        "people": [nobody, nobody | {"age": None}],
        "text": "[redacted]",
    }


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/state/a~1b", {"a/b": "[redacted]", "c~d": [True, 2.5, None], "*": [{"x": 1}, {"x": 2}]}),
        ("/state/c~0d", {"a/b": "s", "c~d": [False, 0.0, None], "*": [{"x": 1}, {"x": 2}]}),
        ("/state/c~0d/1", {"a/b": "s", "c~d": [True, 0.0, None], "*": [{"x": 1}, {"x": 2}]}),
        ("/state/*/*/x", {"a/b": "s", "c~d": [True, 2.5, None], "*": [{"x": 0}, {"x": 0}]}),
        ("/state/*/1/x", {"a/b": "s", "c~d": [True, 2.5, None], "*": [{"x": 1}, {"x": 0}]}),
    ],
)
def test_a_path_is_a_json_pointer(path: str, made: dict[str, Any]) -> None:
    redactor = Redactor([RedactedPath(path)])
    value = {"a/b": "s", "c~d": [True, 2.5, None], "*": [{"x": 1}, {"x": 2}]}
    before = json.dumps(value)

    assert redactor.applied(value, "state") == made
    assert json.dumps(value) == before
    redactor.require_all_found()


@pytest.mark.parametrize("path", ["", "/", "state/a", "/stat", "/meta/name", "*"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="/state, /results, /result, /parameters"):
        RedactedPath(path)


def test_a_damaged_log_is_not_given_away() -> None:
    writers = Writers()
    for what in (1, 3, 4, 6, 0, 1):
        writers.act(what)
    entries = dict(stored_entries(writers.log))
    damaged = entries[3].replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfc")  # no zstd frame
    redaction = Redaction(Redactor([RedactedPath("/state/n")]))

    with pytest.raises(CorruptEntry, match="000000003"):
        list(redaction.entries((entries | {3: damaged}).items()))
