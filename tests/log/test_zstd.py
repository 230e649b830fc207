"""Compression, alone and as the change against another text."""

import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_executions import serialization
from prefect_executions.log.zstd import compress, decompress, frames


@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_compression_is_undone(data: bytes, base: bytes) -> None:
    for prefix in (b"", base, base + data, data):
        assert decompress(compress(data, prefix), len(data), prefix) == data


@given(st.lists(st.binary(max_size=200)))
def test_frames_stand_one_after_another(texts: list[bytes]) -> None:
    assert list(frames(b"".join(map(compress, texts)))) == texts


def _words(seed: int, count: int) -> list[str]:
    """Texts that zstd can't compress."""
    source = random.Random(seed)
    return [f"{source.getrandbits(200):x}" for _ in range(count)]


@pytest.mark.parametrize("size", [10_000, 700_000, 800_000, 1_500_000, 20_000_000])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_the_size_of_a_change_does_not_follow_the_text(size: int, place: float) -> None:
    """One new text costs about its own size, whatever its place and the size of all."""
    texts = _words(1, size // 53)
    at = int(place * len(texts))
    base = serialization.dump({"texts": texts})
    data = serialization.dump({"texts": [*texts[:at], *_words(2, 1), *texts[at:]]})

    change = compress(data, base)

    assert len(change) < 150 + size // 8_000  # 14 bytes for each block of zstd's
    assert decompress(change, len(data), base) == data


@pytest.mark.parametrize("size", [10_000, 600_000, 790_000, 1_100_000, 4_000_000])
def test_changes_in_several_places_cost_little_too(size: int) -> None:
    """What stayed is found wherever it moved."""
    texts = _words(1, size // 53)
    base = serialization.dump({"texts": texts})
    places = [0, *accumulate([len(texts) // 10] * 9)]
    for number, place in enumerate(places):
        texts[place : place + number % 3] = ["new " * (number + 1)]
    data = serialization.dump({"texts": texts})

    change = compress(data, base)

    assert len(change) < 600 + size // 5_000
    assert decompress(change, len(data), base) == data


DAMAGED = [
    b"no zstd at all",
    compress(b"text")[:-1],
    compress(b"text") + b"0",
    compress(b"text")[:-1] + b"0",
]


@pytest.mark.parametrize("damage", [b"", compress(b"other size"), *DAMAGED])
def test_a_damaged_frame_is_noticed(damage: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decompress(damage, 4)


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_frame_among_others_is_noticed(damage: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(frames(compress(b"before") + damage))


def test_another_base_is_noticed() -> None:
    """It is as long as the right one, so that zstd itself finds all that it refers to."""
    base, other = (b" ".join(word.encode() for word in _words(seed, 50)) for seed in (1, 2))
    change = compress(base + b"!", base)

    with pytest.raises(ValueError, match=r"(?i)checksum"):
        decompress(change, len(base) + 1, other[: len(base)].ljust(len(base)))
