"""How a log keeps the journal: stretches, what they are joined from, and what a reader fetches."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logs import call, filled
from prefect_executions.errors import CorruptEntry
from prefect_executions.log import parts, recorded
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import Record, encode
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.parts import Stretch, bases
from prefect_executions.log.reader import Head
from prefect_executions.log.recorded import Recorded, makers
from prefect_executions.log.zstd import frames
from stores import Counting


def test_makers_reach_back_over_4096_entries_at_the_most() -> None:
    assert makers(1001) == [1001, 1000, 992, 960, 896, 768, 512, 0]
    assert makers(12290) == [12290, 12289, 12288, 8192, 4096, 0]
    for seq in (*range(9000), 99_999):
        assert set(bases(seq)) <= set(makers(seq))
        assert len(makers(seq)) <= 17 + seq // 4096


@dataclass
class Written:
    """The entries of a log whose journal grows."""

    entries: dict[int, Entry] = field(default_factory=dict)
    now: Recorded = field(default_factory=lambda: Recorded({}))

    def append(self, lines: bytes, *, anew: bool = False) -> None:
        seq = len(self.entries)
        self.now = self.now.anew(seq, lines) if anew else self.now.after(seq, lines)
        self._add(seq, Kind.STEPS, self.now.stretch(seq))

    def claim(self) -> None:
        self._add(len(self.entries), Kind.CLAIM, None)

    def _add(self, seq: int, kind: Kind, stretch: Stretch | None) -> None:
        fields: dict[str, Any] = {"at": None, "nonce": "", "attempt": 0}
        self.entries[seq] = Entry(seq=seq, kind=kind, journal=stretch, **fields)

    def read(self, seq: int) -> Recorded:
        """As a reader does who fetches no more than it must."""
        return Recorded.read(seq, {n: self.entries[n] for n in makers(seq)}, "a key")


@given(
    st.lists(st.tuples(st.sampled_from(["", "", "a", "bc" * 9, "d" * 99]), st.integers(0, 9))),
    st.integers(0, 3),
    st.sampled_from([8, 16, 4096]),
    st.sampled_from([0, 30, 1 << 14]),
    st.sampled_from([1, 2, 8]),
    st.sets(st.integers(1, 100)) | st.builds(range, st.integers(1, 20), st.integers(1, 40)),
)
def test_every_journal_is_found_again(
    appended: list[tuple[str, int]],
    start: int,
    most: int,
    together: int,
    row: int,
    claims: Collection[int],
) -> None:
    """Also where claims stand, anywhere or many in a row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded, "_MOST", most)
        patch.setattr(parts, "ROW", row)
        patch.setattr(recorded, "_TOGETHER", together)
        written = Written()
        for _ in range(start):
            written.append(b"")
        journals = dict.fromkeys(range(start), b"")
        journal = b""
        for lines, chance in [("", 1), *appended, *appended]:
            while len(written.entries) in claims:
                written.claim()
            journal = lines.encode() if chance == 0 else journal + lines.encode()
            journals[len(written.entries)] = journal
            written.append(lines.encode(), anew=chance == 0)

        for seq, journal in journals.items():
            assert written.read(seq).lines() == journal
            # and what somebody reads and goes on from, goes on
            followed = written.read(seq)
            for later in journals.keys() & set(range(seq + 1, seq + 12)):
                there = {n: written.entries[n] for n in range(seq + 1, later + 1)}
                read = Recorded.read(later, there, "a key", followed)
                assert read.lines() == journals[later]


def test_a_stretch_is_joined_from_frames_and_not_encoded_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[int] = []
    compress = recorded.compress
    monkeypatch.setattr(
        recorded, "compress", lambda lines: encoded.append(len(lines)) or compress(lines)
    )
    written = Written()
    lines = [b"%06d" % n * 12_000 for n in range(1500)]
    for line in lines:
        written.append(line)

    assert encoded == list(map(len, lines))
    stretches = [entry.journal for entry in written.entries.values() if entry.journal]
    most = max(len(stretch.payload) for stretch in stretches)
    assert 1000 * len(compress(lines[0])) < most < 1100 * len(compress(lines[-1]))


def test_lines_that_are_few_share_a_frame() -> None:
    written = Written()
    for n in range(1025):
        written.append(b"%06d" % n * 20)

    stretch = written.entries[1024].journal
    assert stretch is not None
    assert len(list(frames(stretch.payload))) < 1025 * 120 / (64 << 10) + 8


def _filled_with(log: ExecutionLog, head: Head, entries: int, records: Sequence[Record]) -> Head:
    for n in range(entries):
        head = log.record(head, [replace(record, order=n + 1) for record in records])
    return head


@pytest.mark.parametrize("entries", [10, 1000, 3000])
def test_the_head_with_its_journal_is_one_listing_and_one_round(
    log: ExecutionLog, store: Counting, head: Head, entries: int
) -> None:
    head = _filled_with(log, head, entries, [call(1)])
    store.forget()

    loaded = log.head()

    assert loaded.records() == head.records()
    assert len(loaded.records()) == entries
    assert (store.scans, len(store.rounds)) == (1, 1)
    assert store.rounds[0] <= 14


def test_who_wants_the_state_alone_reads_no_journal(
    log: ExecutionLog, store: Counting, head: Head
) -> None:
    """It is one round, too, as states come first; of each entry only the beginning is read."""
    result = b'"%s"' % (b"%0500d" % 7 * 1000)
    head = _filled_with(log, head, 30, [replace(call(1), result=result)])
    saved = log.checkpoint(head, b'{"n": 1}')
    store.forget()

    for read in (
        log.head(journal=False),
        log.at_checkpoint(saved.entry.seq, journal=False),
        log.read(checkpoints=10).head,
        log.read_before(saved.entry.seq, checkpoints=1).head,
    ):
        assert read.state == b'{"n": 1}'
        assert read.recorded is None
        with pytest.raises(LookupError, match=f"the journal of entry {saved.entry.seq} was not"):
            log.checkpoint(read, b'{"n": 2}')
    assert len(store.rounds) == 4
    assert max(store.received) < len(store.rounds) * (256 << 10)


def test_records_of_a_history_are_those_of_its_heads(log: ExecutionLog, head: Head) -> None:
    for n in range(1, 40):
        head = log.checkpoint(head, b"%d" % n, records=[call(n)])
    log.rollback(9)
    log.checkpoint(log.attempt(), b"100", records=[call(50)])

    history = log.read(checkpoints=20, journal=True)

    assert len(history.numbers) == 20
    for seq in [history.head.entry.seq, *history.numbers]:
        at = history.head if seq == history.head.entry.seq else log.at_checkpoint(seq)
        assert history.records(seq) == at.records()


def test_a_journal_that_does_not_fit_is_noticed_by_who_reads_it(
    log: ExecutionLog, head: Head
) -> None:
    head = log.record(head, [call(1)])
    lines = encode([call(2)])
    for wrong in (
        replace(head.require_recorded(), crc=7),
        replace(head.require_recorded(), size=7),
        head.require_recorded().anew(2, b"{}\n"),
        head.require_recorded().anew(2, lines[:-20]),
    ):
        with pytest.raises(CorruptEntry, match="its journal is damaged"):
            replace(head, recorded=wrong).records()


def test_a_log_without_records_says_nothing_of_them(log: ExecutionLog) -> None:
    assert filled(log, 40).entry.journal is None
    assert log.head().records() == {}
