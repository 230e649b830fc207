"""Logs that were written in the past stay readable forever.

`tests/golden/v1` holds the objects of one log, as format 1 wrote them. Never change it; a new
format gets a directory of its own, written by `python tests/log/test_golden.py`.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path

from prefect_executions.log.entry import FORMAT, Kind
from prefect_executions.log.journal import Large, Outcome, Record, decode
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.parts import Part
from prefect_executions.log.repeats import repeated
from prefect_executions.storage.objects import MemoryObjects

GOLDEN = Path(__file__).parents[1] / "golden"
ID = "exec_00112233445566778899aabbccddeeff"
META = {
    "name": "golden",
    "description": "Grüße 🌍",
    "agent_id": "agent",
    "task_type": "test",
    "config": {"max_retries": 3},
}


def states() -> list[bytes]:
    """The states of the log's checkpoints."""
    texts = [f"message {n}: " + "lorem ipsum dolor sit amet " * 3 for n in range(12)]
    return [
        json.dumps(
            {"n": n, "texts": texts[:n], "ü": "🌍", "long": "sit " * 20_000 * (n > 9)}
        ).encode()
        for n in range(12)
    ]


LARGE = json.dumps("lorem ipsum " * 100_000).encode()


def calls() -> dict[str, Record]:
    """What the log's steps have recorded."""
    at = datetime(2026, 11, 24, 9, 59, 59, 125_000, UTC)
    call = Record(order=1, parent=0, key="a" * 64, step="plain", at=at, outcome=Outcome.DONE)
    return {
        "plain": replace(call, result='{"ü":["🌍",1.5,null]}'.encode()),
        "around": replace(call, order=2, key="b" * 64, step="around", outcome=Outcome.BEGUN),
        "inside": replace(call, order=3, parent=2, step="inside", undo=True, result=b"null"),
        "large": replace(call, order=4, key="c" * 64, step="large", undo=True, result=LARGE),
        "keyed": replace(call, order=5, key="own", step="keyed", inputs="d" * 64, undo=True),
        "asked": replace(call, order=6, step="ask", outcome=Outcome.WAITING, pause_key="ask-1"),
    }


def write(log: ExecutionLog) -> None:
    """A log with every kind of entry, states in full, as changes and as they were.

    A claim is in the place of a base.
    """
    recorded = calls()
    log.create(META, b"{}")
    head = log.attempt()
    for number, state in enumerate(states()):
        label = f"number {number}" if number % 2 else None
        head = log.checkpoint(head, state, label=label, by="somebody" if number == 4 else None)
    head = log.record(head, [recorded["plain"], recorded["around"]])
    records = [recorded["inside"], recorded["large"]]
    head = log.checkpoint(head, b'{"with": "steps"}', label="with steps", records=records)
    log.record(head, [recorded["keyed"], recorded["asked"]])
    log.rollback(15)
    log.record(log.attempt(), [replace(recorded["keyed"], outcome=Outcome.UNDONE)])
    head = log.rollback(5)
    log.crash(head, answers="a" * 32, dead_seconds=31.5, reason="No heartbeat")
    log._take(22, 2, fence=True)
    log.retry(log.head(), answers="b" * 32, reason="Crashed")
    head = log.attempt(config={"max_retries": 3})
    log.result(head, {"found": ["é", None]})


def read(version: int) -> ExecutionLog:
    objects = MemoryObjects()
    for file in sorted((GOLDEN / f"v{version}").iterdir()):
        objects.create(f"ff/{ID}/{file.name}", file.read_bytes())
    return ExecutionLog(objects, ID)


def test_format_1_stays_readable() -> None:
    log = read(1)

    history = log.read(checkpoints=None, journal=True)

    assert history.created.meta == META
    assert [log.at_checkpoint(seq).state for seq in range(2, 14)] == states()
    assert [entry.label for entry in history.checkpoints()][:2] == ["with steps", "number 11"]
    assert [entry.seq for entry in history.checkpoints() if entry.saved_by == "somebody"] == [6]
    assert {entry.kind for entry in history.entries.values()} == set(Kind) - {Kind.DELETED}
    parts = [entry.state for entry in history.checkpoints() if entry.state]
    assert {state.base is None for state in parts} == {True, False}
    assert {state.kept == () for state in parts} == {True, False}
    assert history.entries[1].state == Part(base=0, size=2)
    journals = [entry.journal for entry in history.entries.values() if entry.journal]
    assert {journal.is_whole for journal in journals} == {True, False}
    assert {not journal.payload for journal in journals} == {True, False}
    assert history.head.entry.attempt == 3
    assert history.entries[24].meta == {"config": {"max_retries": 3}}
    assert [history.entries[seq].fenced for seq in range(20, 26)] == [True] * 4 + [False, True]
    assert history.entries[22].kind is Kind.CLAIM
    assert history.entries[23].state == Part(base=21, size=len(states()[3]))
    assert history.head.entry.meta == {"result": {"found": ["é", None]}}
    assert history.head.entry.begun == 24
    assert history.head.entry.retries == 1
    assert history.head.entry.dead_seconds == 31.5
    assert (history.entries[23].answers, history.entries[23].reason) == ("b" * 32, "Crashed")
    assert history.head.entry.continues_from == 5
    assert history.head.state == states()[3]
    assert history.head.entry.at == datetime(2026, 11, 24, 10, 0, 48, 250_000, UTC)


def test_what_entries_of_format_1_repeat_stays_readable() -> None:
    log = read(1)

    quickly, slowly = log.read(checkpoints=None), log.read(checkpoints=None, journal=True)

    repeats = {seq: [*repeated(entry)] for seq, entry in slowly.entries.items()}
    told = {8: [*range(1, 8)], 16: [*range(1, 16)], 24: [*range(17, 24)]}
    assert {seq: numbers for seq, numbers in repeats.items() if numbers} == told
    assert quickly.numbers == slowly.numbers
    for seq in slowly.numbers:
        assert quickly.state(seq) == slowly.state(seq)
        assert quickly.entries[seq].label == slowly.entries[seq].label


def test_the_journal_of_format_1_stays_readable() -> None:
    log = read(1)
    recorded = calls()

    saved = log.at_checkpoint(15)

    large = decode(saved.journal)[4].large
    assert large is not None
    digest = sha256(LARGE).hexdigest()
    assert replace(large, stored=0) == Large(
        seq=15, start=640, stored=0, size=len(LARGE), sha256=digest
    )
    assert log.large_result(large) == LARGE
    recorded["large"] = replace(recorded["large"], result=None, large=large)
    names = ("plain", "around", "inside", "large")
    assert list(decode(saved.journal).values()) == [recorded[name] for name in names]
    assert log.at_checkpoint(13).journal == b""
    # after a roll-back to before all of these calls, and one of them was undone
    assert list(decode(log.head().journal).values()) == [
        replace(recorded["keyed"], outcome=Outcome.UNDONE),
        replace(recorded["inside"], outcome=Outcome.UNDO),
        replace(recorded["large"], outcome=Outcome.UNDO),
    ]


def test_the_golden_log_of_format_1_is_never_changed() -> None:
    files = sorted((GOLDEN / "v1").iterdir())

    digest = sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).hexdigest()

    assert digest == "27808d3c61c1789d778c1ecb477dcf644286e5de043d86189e62f2d7dd25861c"


def test_there_is_a_golden_log_of_the_present_format() -> None:
    assert (GOLDEN / f"v{FORMAT}").is_dir()


if __name__ == "__main__":
    seconds, nonces = count(), count()
    start = datetime(2026, 11, 24, 10, 0, 0, 250_000, UTC)
    store = MemoryObjects()
    write(
        ExecutionLog(
            store,
            ID,
            clock=lambda: start + timedelta(seconds=next(seconds)),
            new_nonce=lambda: f"{next(nonces):032x}",
        )
    )
    directory = GOLDEN / f"v{FORMAT}"
    directory.mkdir(parents=True)
    for key, data in store.get(list(store.scan(""))).items():
        (directory / key.rpartition("/")[2]).write_bytes(data)
