"""One entry: its bytes, and which checkpoints before it are known."""

import json
from zlib import crc32

import pytest

from logs import ID, call, filled, large, numbered, step_after
from prefect_executions.errors import (
    CorruptEntry,
)
from prefect_executions.log.entry import RUNS, Entry, Kind
from prefect_executions.log.journal import (
    LARGE,
)
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.log.zstd import decompress
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting


def test_an_entry_is_a_line_of_json_and_the_payload(log: ExecutionLog, store: Counting) -> None:
    head = filled(log, 1)
    key = f"ef/{ID}/999999997"

    line, payload = store.get([key])[key].split(b"\n", 1)

    part = head.entry.state
    assert part is not None
    header = json.loads(line)
    assert header == {
        "v": 1,
        "seq": 2,
        "kind": "checkpoint",
        "at": "2026-11-24T10:00:04.000Z",
        "attempt": 1,
        "nonce": head.entry.nonce,
        "label": "number 1",
        "begun": 1,
        "runs": [0, 1, 2],
        "codec": "zstd",
        "state": {
            "base": None,
            "size": len(numbered(1)),
            "bytes": len(payload),
        },
        "crc32": f"{crc32(line.rpartition(b',')[0] + b'}'):08x}",
    }
    assert payload == part.payload


def test_an_entry_says_how_its_journal_is_made(
    log: ExecutionLog, store: Counting, head: Head
) -> None:
    before = log.record(head, [call(n) for n in range(1, 20)])
    head = log.record(before, [large(LARGE, 20)])
    assert head.entry.journal is not None
    key = f"ef/{ID}/999999996"
    data = store.get([key])[key]

    line, payload = data.split(b"\n", 1)

    header = json.loads(line)
    where = head.records()[20].large
    assert where is not None
    assert header["kind"] == "steps"
    assert header["from"] == 0
    assert header["state"] == {"base": 2, "size": 8, "bytes": 0}
    assert header["journal"] == {
        "size": len(head.journal),
        "crc32": f"{crc32(head.journal):08x}",
        "bytes": len(head.entry.journal.payload),
    }
    lines = head.journal.splitlines(keepends=True)[-1]
    assert decompress(payload[: header["journal"]["bytes"]], len(lines)) == lines
    assert header["large"] == [where.start, where.stored]
    assert (where.seq, where.start % 64, len(data)) == (3, 0, where.start + where.stored)
    assert decompress(data[where.start :], where.size) == large(LARGE, 20).result


def test_an_entry_of_a_newer_format_is_refused() -> None:
    with pytest.raises(CorruptEntry, match="this version reads format 1"):
        Entry.from_bytes(b'{"v":2}\n', key="a key", seq=0)


def test_an_entry_is_read_the_same_with_its_large_results_and_without(
    log: ExecutionLog, memory: MemoryObjects, head: Head
) -> None:
    log.record(head, [large(LARGE, 1), large(LARGE, 2)])
    key = next(memory.scan(""))
    data = memory.get([key])[key]

    whole = Entry.from_bytes(data, key=key, seq=2)

    assert whole.large == ()
    assert Entry.from_bytes(data[:2000], key=key, seq=2) == whole
    with pytest.raises(CorruptEntry, match="it is entry 2, of"):
        Entry.from_bytes(data + b"0", key=key, seq=2)


def test_an_entry_knows_which_of_the_newest_entries_are_checkpoints() -> None:
    log = ExecutionLog(MemoryObjects(), ID)
    head, kinds = log.create({}, b"{}"), [Kind.CREATED]
    for n, kind in enumerate("CSCCSSSCSCCCSSC" * 3):
        saves = kind == "C"
        head = log.checkpoint(head, b"%d" % n) if saves else log.record(head, [step_after(head)])
        kinds.append(head.entry.kind)
        known = list(head.entry.checkpoints_before())
        newest = [seq for seq, kind in enumerate(kinds) if kind is Kind.CHECKPOINT][::-1]
        assert known == newest[: len(known)]
        assert len(known) >= min(len(newest), RUNS // 2 - 1)
