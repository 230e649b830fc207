"""How entries store states."""

import json
from random import Random

import pytest

from logs import META, filled, step_after
from prefect_executions.log import changes
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.parts import Part, bases
from prefect_executions.log.reader import Head
from stores import Counting


def test_bases_are_those_before_in_a_row_and_then_clear_the_lowest_bit() -> None:
    assert bases(1003) == [1003, 1002, 1001, 1000, 992, 960, 896, 768, 512, 0]
    assert bases(0) == [0]


def test_a_wholly_new_state_is_written_in_full(log: ExecutionLog) -> None:
    head = filled(log, 4)
    other = json.dumps([f"{n * n:x}" for n in range(1000)]).encode()

    head = log.checkpoint(head, other)

    assert head.entry.state is not None
    assert head.entry.state.base is None
    assert log.head().state == other


def _large_states(count: int) -> list[bytes]:
    """Over 4 MiB each, which are not kept when there is a newer one."""
    texts, states = [f"{n:040x}" for n in range(150_000)], []
    for number in range(count):
        texts[number] = "changed"
        states.append(json.dumps(texts).encode())
    return states


def test_states_too_large_to_keep_decoded_are_saved_and_found(log: ExecutionLog) -> None:
    head, heads = filled(log, 0), list[Head]()
    saved = _large_states(9)
    for state in saved:
        head = log.checkpoint(head, state)
        heads.append(head)

    assert head.entry.state is not None
    assert len(head.entry.state.payload) < 1000
    assert head.entry.size > 4 << 20
    assert log.head().state == head.state == saved[-1]
    assert [head.state for head in heads] == saved  # even of those that are no longer the newest


def test_what_leaves_a_large_state_as_it_is_costs_nothing(
    log: ExecutionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few of a thousand entries repeat the change, as few have a base before it."""
    before, state = _large_states(2)
    head = log.checkpoint(filled(log, 4), before)
    head = log.checkpoint(head, state)
    made: list[int] = []
    compress = changes.compress
    monkeypatch.setattr(changes, "compress", lambda *args: made.append(0) or compress(*args))
    payloads = []
    for _ in range(1000):
        head = log.record(head, [step_after(head)])
        assert head.entry.state is not None
        payloads.append(head.entry.state.payload)

    assert head.state is state
    repeated = list(filter(None, payloads))
    assert len(made) < len(repeated) < 20  # each was made once
    assert log.head().state == state


def test_a_state_that_was_saved_again_is_that_of_its_base(log: ExecutionLog) -> None:
    head = log.checkpoint(filled(log, 1), b'{"n": 2}')

    again = log.record(log.checkpoint(head, b'{"n": 3}'), [])

    assert again.entry.state == Part(base=4, size=8)
    assert log.head().state == b'{"n": 3}'


@pytest.mark.parametrize(
    ("claims", "base"), [([10], 9), ([9, 10], 8), ([8], 0), ([8, 9], 0), ([13, 14, 15], 0)]
)
def test_in_place_of_a_claim_its_own_base_is_taken(
    log: ExecutionLog, store: Counting, claims: list[int], base: int
) -> None:
    text = Random(1).randbytes(2000).hex()
    log.create(META, json.dumps([text, 0]).encode())
    head = log.attempt()
    for number in range(2, 40):
        if number == claims[0]:
            for seq in claims:
                log._take(seq, 0, fence=False)
        state = json.dumps([text, number]).encode()
        head = log.checkpoint(head, state)
        store.forget()
        assert log.head().state == state
        assert (store.scans, len(store.rounds)) == (1, 1)
        assert head.entry.state is not None
        assert head.entry.state.base not in (None, *claims)
        if head.entry.seq == claims[-1] + 1:
            assert head.entry.state.base == base
            head = log.head()  # another process goes on from there
