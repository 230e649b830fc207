"""Deltas, digests and compression, and how entries use them."""

import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logs import filled
from prefect_executions import serialization
from prefect_executions.log import deltas
from prefect_executions.log.deltas import bases
from prefect_executions.log.log import ExecutionLog


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200), st.binary())
def test_a_change_makes_the_new_state_of_the_old(
    start: bytes, middle: bytes, end: bytes, new: bytes
) -> None:
    for base, data in [
        (start + middle + end, start + new + end),
        (start + end, start + new + end),
        (start + middle + end, start + end),
        (start, new),
    ]:
        change = deltas.delta(base, data)

        assert deltas.apply(base, change, len(data)) == data


@pytest.mark.parametrize("same", [0, 1, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("more", [0, 1, 70_000])
def test_a_digest_continued_is_the_digest(same: int, more: int) -> None:
    base = b"a" * 200_000
    data = base[:same] + b"b" * more

    continued = deltas.Digest(data, deltas.Digest(base), same)
    again = deltas.Digest(data + b"c", continued, len(data))

    assert continued.hex == hashlib.sha256(data).hexdigest()
    assert again.hex == hashlib.sha256(data + b"c").hexdigest()


@given(st.binary(max_size=2000))
def test_compression_is_undone(data: bytes) -> None:
    assert deltas.decompress(deltas.compress(data), len(data)) == data


def _words(seed: int, count: int) -> list[str]:
    """Texts that zstd can't compress."""
    source = random.Random(seed)
    return [f"{source.getrandbits(200):x}" for _ in range(count)]


@pytest.mark.parametrize("size", [10_000, 800_000, 20_000_000])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_the_size_of_a_change_does_not_follow_the_state(size: int, place: float) -> None:
    """One new text costs about its own size, whatever its place and the size of the state."""
    texts = _words(1, size // 53)
    at = int(place * len(texts))
    base = serialization.dump({"texts": texts})
    data = serialization.dump({"texts": [*texts[:at], *_words(2, 1), *texts[at:]]})

    change = deltas.delta(base, data)

    assert len(change.payload) < 100
    assert deltas.apply(base, change, len(data)) == data


@pytest.mark.parametrize("size", [10_000, 800_000, 4_000_000])
def test_changes_in_several_places_cost_little_too(size: int) -> None:
    """Zstd finds what is the same between the first and the last change."""
    texts = _words(1, size // 53)
    base = serialization.dump({"texts": texts})
    third = len(texts) // 3
    changed = ["new", *texts[:third], "new", *texts[third + 1 :], "new"]
    data = serialization.dump({"texts": changed})

    change = deltas.delta(base, data)

    assert len(change.payload) < 200 + size // 1_000


@pytest.mark.parametrize("damage", [b"", b"no zstd at all", deltas.compress(b"other size")])
def test_a_damaged_payload_is_noticed(damage: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        deltas.decompress(damage, 4)


def test_bases_clear_the_lowest_bit() -> None:
    assert bases(1000) == [1000, 992, 960, 896, 768, 512, 0]
    assert bases(0) == [0]


def test_a_wholly_new_state_is_written_in_full(log: ExecutionLog) -> None:
    head = filled(log, 4)
    other = json.dumps([f"{n * n:x}" for n in range(1000)]).encode()

    head = log.checkpoint(head, other)

    assert head.entry.state is not None
    assert head.entry.state.base is None
    assert log.head().state == other


def test_states_too_large_to_keep_decoded_are_saved_and_found(log: ExecutionLog) -> None:
    head = filled(log, 0)
    texts = [f"{n:040x}" for n in range(150_000)]
    for number in range(6):
        texts[number] = "changed"
        state = json.dumps(texts).encode()
        head = log.checkpoint(head, state)

    assert head.entry.size > 4 << 20
    assert head.entry.state is not None
    assert len(head.entry.state.payload) < 1000
    assert log.head().state == state
