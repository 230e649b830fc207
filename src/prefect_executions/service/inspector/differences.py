"""What differs between two states, by their structure: `done: +17`."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from prefect_executions.service.inspector.fields import as_json

MOST = 200  # differences that are told
SHOWN = 80  # characters of a value
LONGEST = 120  # characters of a path


@dataclass(frozen=True, slots=True)
class PartChange:
    """A place at which two states differ.

    Args:
        path: The keys and places that lead to it.
        what: `added`, `removed` or `changed`.
        told: What has become of it, in a few words.
    """

    path: tuple[str | int, ...]
    what: str
    told: str

    @property
    def pointer(self) -> str:
        """The path, as people write it, `notes.one[2]`: the beginning of a long one."""
        path = pointer_of(self.path)
        return path if len(path) <= LONGEST else f"{path[:LONGEST]}…"


def pointer_of(path: tuple[str | int, ...]) -> str:
    """A path, as people write it: `notes.one[2]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".") or "the state"


def differences(before: Any, after: Any) -> list[PartChange]:
    """What differs, in the order of the keys; one more than `MOST` where there are more."""
    return [*islice(_differ(before, after, ()), MOST + 1)]


def _differ(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[PartChange]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            here = (*path, key)
            if key not in after:
                yield PartChange(here, "removed", f"was {brief(before[key])}")
            elif key not in before:
                yield PartChange(here, "added", brief(after[key]))
            else:
                yield from _differ(before[key], after[key], here)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _lists(before, after, path)
    elif not is_same(before, after):
        yield PartChange(path, "changed", _change(before, after))


def _lists(
    before: list[Any], after: list[Any], path: tuple[str | int, ...]
) -> Iterator[PartChange]:
    """What differs between lists; where they differ in length, how many items came and went."""
    if len(before) == len(after):
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _differ(old, new, (*path, place))
        return
    shorter = min(len(before), len(after))
    start = next((n for n in range(shorter) if not is_same(before[n], after[n])), shorter)
    rest = shorter - start
    end = next((n for n in range(rest) if not is_same(before[-n - 1], after[-n - 1])), rest)
    gone, come = len(before) - start - end, len(after) - start - end
    counts = [f"+{come:,}" if come else "", f"-{gone:,}" if gone else ""]
    where = "" if start == len(before) or end == 0 else f", from [{start}] on"
    shown = brief(after[start]) if come == 1 else ""
    told = " ".join(filter(None, counts)) + where + (f": {shown}" if shown else "")
    yield PartChange(path, "added" if not gone else "removed" if not come else "changed", told)


def is_same(before: Any, after: Any) -> bool:
    """Whether two JSON values are the same; 1, 1.0 and true are not."""
    if type(before) is not type(after):
        return False
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(is_same(before[k], after[k]) for k in before)
    if isinstance(before, list):
        both = zip(before, after, strict=False)
        return len(before) == len(after) and all(is_same(one, other) for one, other in both)
    return bool(before == after)


def _change(before: Any, after: Any) -> str:
    if isinstance(before, str) and isinstance(after, str) and before and after.startswith(before):
        return f"+{len(after) - len(before):,} characters: {brief(after[len(before) :])}"
    told = f"{brief(before)} → {brief(after)}"
    if _is_number(before) and _is_number(after):
        told += f" ({after - before:+g})"
    return told


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def brief(value: Any, most: int = SHOWN) -> str:
    """A value in a few words, `most` characters at most."""
    if isinstance(value, dict | list) and value:
        what = "key" if isinstance(value, dict) else "item"
        whole = as_json(value) if len(value) <= 5 else ""
        if whole and len(whole) <= most:
            return whole
        return f"{len(value):,} {what}{'' if len(value) == 1 else 's'}"
    text = as_json(value)
    return text if len(text) <= most else f"{text[:most]}…"
