"""Texts as changes against earlier ones."""

import random
import re
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_executions import serialization
from prefect_executions.log.changes import Change


def _words(seed: int, count: int) -> list[str]:
    """Texts that zstd can't compress."""
    source = random.Random(seed)
    return [f"{source.getrandbits(200):050x}" for _ in range(count)]


def _text(words: list[str]) -> bytes:
    return serialization.dump({"texts": words})


pieces = st.lists(
    st.tuples(st.integers(0, 60_000), st.one_of(st.integers(0, 20_000), st.binary(max_size=300))),
    max_size=6,
)
"""Of each: how many bytes of the base stay, and then how many go, or which new ones come."""


@given(st.sampled_from([b"", b"a", b"ab " * 50_000, _text(_words(1, 4_000))]), pieces)
def test_a_change_brings_the_text(base: bytes, edits: list[tuple[int, int | bytes]]) -> None:
    made, at = list[bytes](), 0
    for stays, edit in edits:
        made.append(base[at : at + stays])
        at += stays
        if isinstance(edit, bytes):
            made.append(edit)
        else:
            at += edit
    for text in (b"".join([*made, base[at:]]), b"".join(made)):
        assert Change.between(base, text).applied(base, len(text)) == text
        assert Change.between(text, base).applied(text, len(base)) == base


@pytest.mark.parametrize("size", [10_000, 700_000, 1_500_000, 20_000_000])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_the_size_of_a_change_does_not_follow_the_text(size: int, place: float) -> None:
    texts = _words(1, size // 53)
    at = int(place * len(texts))
    base, text = _text(texts), _text([*texts[:at], *_words(2, 1), *texts[at:]])

    change = Change.between(base, text)

    assert len(change.frame) < 150
    assert sum(passage.size for passage in change.kept) > len(base) - 10_000 or size == 10_000
    assert change.applied(base, len(text)) == text


@pytest.mark.parametrize("size", [10_000, 600_000, 1_100_000, 4_000_000])
def test_changes_in_several_places_cost_little_too(size: int) -> None:
    texts = _words(1, size // 53)
    base = _text(texts)
    for number, place in enumerate([0, *accumulate([len(texts) // 10] * 9)]):
        texts[place : place + number % 3] = ["new " * (number + 1)]
    text = _text(texts)

    change = Change.between(base, text)

    assert len(change.frame) < 900
    assert change.applied(base, len(text)) == text


@pytest.mark.parametrize("edits", [100, 5_000])
def test_many_changes_are_left_to_zstd(edits: int) -> None:
    texts = _words(1, 50_000)
    base = _text(texts)
    for number in range(edits):
        texts[number * len(texts) // edits] = f"{number}"
    text = _text(texts)

    change = Change.between(base, text)

    assert len(change.kept) <= 192
    assert len(change.frame) < 60 * edits
    assert change.applied(base, len(text)) == text


def test_what_has_moved_is_found() -> None:
    texts = _words(1, 50_000)
    base, text = _text(texts), _text([*texts[25_000:], *texts[:25_000]])

    change = Change.between(base, text)

    assert len(change.frame) < 1_000
    assert change.applied(base, len(text)) == text


def test_another_base_is_noticed() -> None:
    base, other = _text(_words(1, 5_000)), _text(_words(2, 5_000))
    text = base[:100_000] + b"something new" + base[100_000:]
    change = Change.between(base, text)

    for wrong in (other, base[:50_000], b""):
        with pytest.raises(ValueError, match=re.compile("checksum|CRC-32|corrupt", re.IGNORECASE)):
            change.applied(wrong, len(text))
