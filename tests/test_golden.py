"""Logs that were written in the past stay readable for ever.

`golden/v1` holds the objects of one log, as format 1 wrote them. Never change it; a new format gets
a directory of its own, written by `python tests/test_golden.py`.
"""

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from prefect_executions.entry import FORMAT, Kind
from prefect_executions.log import ExecutionLog
from prefect_executions.objects import MemoryObjects

GOLDEN = Path(__file__).parent / "golden"
ID = "exec_00112233445566778899aabbccddeeff"
META = {
    "name": "golden",
    "description": "Grüße 🌍",
    "agent_id": "agent",
    "task_type": "test",
    "config": {"max_retries": 3},
}


def states() -> list[bytes]:
    """The states that the log's checkpoints have."""
    texts = [f"message {n}: " + "lorem ipsum dolor sit amet " * 3 for n in range(12)]
    return [json.dumps({"n": n, "texts": texts[:n], "ü": "🌍"}).encode() for n in range(12)]


def write(log: ExecutionLog) -> None:
    """A log with every kind of entry, deltas, and states that stand alone."""
    log.create(META, b"{}")
    head = log.attempt()
    for number, state in enumerate(states()):
        head = log.checkpoint(head, state, label=f"number {number}" if number % 2 else None)
    head = log.rollback(5)
    head = log.crash(head, answers="a" * 32, dead_seconds=31.5, reason="No heartbeat")
    log.retry(head, answers="b" * 32, reason="Crashed")
    log.attempt(config={"max_retries": 3})


def read(version: int) -> ExecutionLog:
    objects = MemoryObjects()
    for file in sorted((GOLDEN / f"v{version}").iterdir()):
        objects.create(f"ff/{ID}/{file.name}", file.read_bytes())
    return ExecutionLog(objects, ID)


def test_format_1_stays_readable() -> None:
    log = read(1)

    history = log.read(checkpoints=None)

    assert history.created.meta == META
    assert [log.checkpoint_state(seq) for seq in range(2, 14)] == states()
    assert [entry.label for entry in history.checkpoints()][:2] == ["number 11", None]
    assert {entry.kind for entry in history.entries.values()} == set(Kind) - {Kind.DELETED}
    assert any(entry.base is None for entry in history.checkpoints())
    assert any(entry.base is not None for entry in history.checkpoints())
    assert history.head.entry.attempt == 2
    assert history.head.entry.meta == {"config": {"max_retries": 3}}
    assert history.head.entry.begun == 17
    assert history.head.entry.retries == 1
    assert history.head.entry.dead_seconds == 31.5
    assert (history.entries[16].answers, history.entries[16].reason) == ("b" * 32, "Crashed")
    assert history.head.entry.continues_from == 5
    assert history.head.state == states()[3]
    assert history.head.entry.at == datetime(2026, 11, 24, 10, 0, 17, 250_000, UTC)


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
