"""Pruning: what is removed, and that what stays can be read, rolled back to and continued."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_executions import serialization
from prefect_executions.errors import CheckpointNotFound, ExecutionDeleted, Superseded
from prefect_executions.log.journal import LARGE, Outcome, Record, decode
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.pruning import prune
from prefect_executions.log.reader import Head
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting

ID = "exec_" + "0" * 30 + "0a"
START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(days=1)


def state(n: int) -> bytes:
    return serialization.dump({"n": n, "text": "word " * 50 + str(n)})


class Written:
    """A log, and the states of all its checkpoints."""

    def __init__(self) -> None:
        self.store = MemoryObjects()
        self.now = START
        self.log = ExecutionLog(self.store, ID, clock=lambda: self.now)
        self.log.create({"name": "a"}, state(0))
        self.head = self.log.attempt()
        self.states: dict[int, bytes] = {}
        self.labels: dict[int, str | None] = {}
        self._n = count(1)

    def save(self, times: int = 1, label: str | None = None) -> int:
        for _ in range(times):
            data = state(next(self._n))
            self.head = self.log.checkpoint(self.head, data, label=label)
            self.states[self.head.entry.seq] = data
            self.labels[self.head.entry.seq] = label
        return self.head.entry.seq

    def step(self, result: bytes = b"1") -> None:
        order = self.head.entry.seq
        record = Record(
            order=order,
            parent=0,
            key=f"{order}",
            step="step",
            at=START,
            outcome=Outcome.DONE,
            result=result,
        )
        self.head = self.log.record(self.head, [record])

    def prune(self, newest: int, *, labelled: bool = False, also: tuple[int, ...] = ()) -> int:
        return prune(self.log, newest=newest, labelled=labelled, also=also, before=LATER)

    def there(self) -> set[int]:
        return set(self.log.numbers())


def loaded(log: ExecutionLog, count: int | None = None) -> dict[int, bytes]:
    history = log.read(checkpoints=count)
    return {seq: history.state(seq) for seq in history.numbers}


def test_the_newest_checkpoints_stay_with_all_that_they_are_made_from() -> None:
    written = Written()
    written.save(300)

    removed = written.prune(10)

    assert removed > 270
    states = loaded(written.log)
    assert list(states)[:10] == sorted(written.states, reverse=True)[:10]
    assert states == {seq: written.states[seq] for seq in states}
    assert loaded(written.log, 10) == dict(list(states.items())[:10])
    assert loaded(written.log, 100) == states


def test_what_was_removed_is_not_found_and_what_stays_can_be_gone_back_to() -> None:
    written = Written()
    written.save(40)
    written.prune(3)

    gone = max(written.states.keys() - written.there())
    with pytest.raises(CheckpointNotFound):
        written.log.rollback(gone)
    kept = min(loaded(written.log, 3))
    assert written.log.rollback(kept).state == written.states[kept]


def test_a_process_goes_on_with_what_it_knows() -> None:
    """It does not notice the pruning, since the bases of later entries stay."""
    written = Written()
    for _ in range(80):
        written.save(3)
        written.prune(2)

    assert written.log.head().state == written.head.state
    assert len(written.there()) < 20


def test_checkpoints_with_a_label_stay_if_they_are_to() -> None:
    written = Written()
    written.save(50)
    labelled = written.save(label="good")
    written.save(200)

    written.prune(5, labelled=True)

    assert labelled in written.there()
    assert loaded(written.log)[labelled] == written.states[labelled]
    written.prune(5)
    assert labelled not in written.there()


def test_far_apart_ones_are_found_behind_what_is_gone() -> None:
    """A header knows the newest 24 runs of checkpoints; older ones are found by a listing."""
    written = Written()
    labelled = []
    for _ in range(60):
        written.save(3)
        written.step()
        labelled.append(written.save(label="good"))
        written.step()
    written.prune(1, labelled=True)

    found = loaded(written.log)

    assert set(labelled) <= found.keys()
    assert loaded(written.log, 1000) == found
    assert list(found) == sorted(found, reverse=True)
    page = written.log.read_before(labelled[-1], checkpoints=1000)
    assert set(labelled[:-1]) <= set(page.numbers)


def test_they_are_found_behind_claims_of_which_no_header_knows() -> None:
    written = Written()
    labelled = written.save(label="good")
    for _ in range(20):
        written.save()
        written.step()
        for ahead in range(9):
            written.log._take(written.head.entry.seq + 1 + ahead, 0, fence=False)
    written.prune(1, labelled=True)

    assert labelled in loaded(written.log)


def others_go_on(written: Written, *, claims: int = 0, saved: int = 0) -> None:
    """Another process goes on from what was written, and all of it that can be is pruned."""
    ahead = written.head
    for number in range(claims):
        written.log._take(ahead.next_seq + number, ahead.entry.attempt, fence=True)
    for _ in range(saved):
        ahead = written.log.checkpoint(ahead, state(-1))
    for _ in range(3):
        written.head = written.log.attempt()
        written.save(40)
    written.now = LATER
    written.prune(1)
    assert len(written.there()) < 30


@pytest.mark.parametrize(("claims", "saved"), [(0, 0), (3, 0), (0, 1), (0, 5)])
@pytest.mark.parametrize("before", [0, 30])
def test_a_process_that_was_frozen_is_superseded_after_pruning_too(
    before: int, claims: int, saved: int
) -> None:
    """Also where its next number was that of a checkpoint somebody else saved."""
    written = Written()
    written.save(before)
    frozen = written.head
    others_go_on(written, claims=claims, saved=saved)

    for write in (
        lambda: written.log.checkpoint(frozen, state(0)),
        lambda: written.log.record(frozen, []),
        lambda: written.log.result(frozen, 1),
    ):
        with pytest.raises(Superseded):
            write()

    head = written.log.head()
    assert head.entry.seq == written.head.entry.seq
    assert head.state == written.head.state
    written.now += timedelta(days=1)
    written.head = written.log.checkpoint(head, state(0))
    prune(written.log, newest=1, labelled=False, also=(), before=written.now)
    assert frozen.entry.seq + 1 not in written.there()


def test_whoever_read_the_head_before_it_was_pruned_reads_it_again() -> None:
    written = Written()
    written.save(30)
    times: list[None] = []

    def admit(_: Head) -> None:
        if not times:
            times.append(None)
            others_go_on(written)

    begun = written.log.attempt(admit)

    assert begun.entry.attempt == written.head.entry.attempt + 1
    assert written.log.head().entry == begun.entry


def test_a_process_that_was_deleted_long_ago_is_told_so() -> None:
    written = Written()
    frozen = written.head
    written.save(30)
    others_go_on(written)
    written.log.delete()

    with pytest.raises(ExecutionDeleted):
        written.log.checkpoint(frozen, state(0))


def test_a_process_that_was_away_goes_on_with_one_more_request() -> None:
    written = Written()
    counting = Counting(MemoryObjects())
    log = replace(written.log, objects=counting)
    log.create({"name": "a"}, state(0))
    head = log.attempt()
    written.now = LATER
    counting.forget()

    for scans in (1, 0):
        head = log.checkpoint(head, state(1))
        assert (counting.scans, counting.rounds) == (scans, [])
        counting.forget()
    written.now += timedelta(hours=1)
    log.checkpoint(log.checkpoint(head, state(2)), state(3))
    assert log.record(head, []).entry.seq == head.entry.seq + 3


def test_those_that_are_named_stay() -> None:
    written = Written()
    root = written.save()
    written.save(100)

    written.prune(1, also=(root,))

    assert written.log.at_checkpoint(root).state == written.states[root]


def test_a_large_result_stays() -> None:
    written = Written()
    written.step(b'"' + b"x" * LARGE + b'"')
    written.save(100)

    written.prune(1)

    (record,) = decode(written.log.head().journal).values()
    assert len(written.log.with_result(record).result or b"") == LARGE + 2


def test_what_was_written_just_now_stays() -> None:
    written = Written()
    written.save(50)
    written.now = LATER
    written.save(50)

    written.prune(1)

    assert {seq for seq in written.states if seq > 52} <= written.there()
    assert len(written.there()) < 70


def test_a_short_log_is_not_looked_at() -> None:
    written = Written()
    written.save(5)

    assert written.prune(10) == 0


def test_who_reads_meanwhile_finds_an_entry_whole_or_not_at_all() -> None:
    """It is removed before its bases, so no entry ever looks damaged."""
    written = Written()
    written.save(63)
    seqs = sorted(written.there() - {0})
    whole: list[set[int]] = []

    class Watched(MemoryObjects):
        def delete(self, keys: object) -> None:
            for key in list(keys):  # type: ignore[call-overload]
                super().delete([key])
                left = set(ExecutionLog(self, ID).numbers())
                for seq in left & written.states.keys():
                    head: Head = ExecutionLog(self, ID).at_checkpoint(seq)
                    assert head.state == written.states[seq]
                whole.append(left)

    watched = Watched()
    for key in written.store.scan(""):
        watched.create(key, written.store.get([key])[key])
    ExecutionLog(watched, ID).remove(seqs)

    assert whole[-1] == {0}


@given(
    st.lists(st.sampled_from(["save", "label", "step", "attempt", "back", "claim"]), max_size=60),
    st.data(),
)
def test_no_history_is_harmed(acts: list[str], data: st.DataObject) -> None:
    written = Written()
    newest = data.draw(st.integers(1, 8))
    labelled = data.draw(st.booleans())
    for act in acts:
        if act in ("save", "label"):
            written.save(label="good" if act == "label" else None)
        elif act == "step":
            written.step()
        elif act == "attempt":
            written.head = written.log.attempt()
        elif act == "claim":
            for ahead in range(data.draw(st.integers(1, 9))):
                written.log._take(written.log.head().next_seq + ahead % 2, 0, fence=False)
        elif written.states:
            known = sorted(loaded(written.log))
            written.log.rollback(data.draw(st.sampled_from(known)))
            written.head = written.log.attempt()
        if data.draw(st.booleans()):
            written.prune(newest, labelled=labelled)

    head = written.log.head()
    assert (head.state, head.journal) == (written.head.state, written.head.journal)
    found = loaded(written.log)
    assert found == {seq: written.states[seq] for seq in found}
    assert {*sorted(written.states, reverse=True)[:newest]} <= found.keys()
    if labelled:
        assert {seq for seq, label in written.labels.items() if label} <= found.keys()
