"""One entry: its bytes, and which checkpoints before it are known."""

import json
from hashlib import sha256
from zlib import crc32

import pytest

from logs import ID, call, filled, large, numbered, step_after
from prefect_executions.errors import (
    CorruptEntry,
)
from prefect_executions.log import deltas
from prefect_executions.log.entry import RUNS, Entry, Kind
from prefect_executions.log.journal import (
    LARGE,
    decode,
)
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
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
        "at": "2026-11-24T10:00:03.000Z",
        "attempt": 1,
        "nonce": head.entry.nonce,
        "label": "number 1",
        "begun": 1,
        "runs": [0, 1, 2],
        "codec": "zstd",
        "state": {
            "base": None,
            "size": len(numbered(1)),
            "sha256": sha256(numbered(1)).hexdigest(),
            "bytes": len(payload),
        },
        "crc32": f"{crc32(payload, crc32(line.rpartition(b',')[0] + b'}')):08x}",
    }
    assert payload == part.payload


def test_an_entry_says_how_its_journal_is_made(
    log: ExecutionLog, store: Counting, head: Head
) -> None:
    before = log.record(head, [call(n) for n in range(1, 20)])
    head = log.record(before, [large(LARGE, 20)])
    assert head.entry.state is not None
    assert head.entry.journal is not None
    key = f"ef/{ID}/999999996"

    line, payload = store.get([key])[key].split(b"\n", 1)

    header = json.loads(line)
    where = decode(head.journal)[20].large
    assert where is not None
    sizes = [header[name]["bytes"] for name in ("state", "journal")]
    assert header["kind"] == "steps"
    assert header["from"] == 0
    assert header["journal"] == {
        "base": 2,
        "keep": [len(before.journal), 0],
        "dict": [0, len(before.journal)],
        "size": len(head.journal),
        "sha256": deltas.Digest(head.journal).hex,
        "bytes": len(head.entry.journal.payload),
    }
    assert header["large"] == [len(payload) - sum(sizes)]
    assert (where.seq, where.index) == (3, 0)
    assert deltas.decompress(payload[sum(sizes) :], where.size) == large(LARGE, 20).result


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
