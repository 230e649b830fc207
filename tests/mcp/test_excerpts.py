"""Parts of values: what comes along, and how the rest is reached."""

from typing import Any

import pytest
from hypothesis import given
from mcp.server.mcpserver.exceptions import ToolError

from prefect_executions import serialization
from prefect_executions.mcp.excerpts import changes_of, part_of
from strategies import JSON

STATE = {"notes": {"a/b": ["one", "two"], "m~n": 1}, "done": True, "": None}


@pytest.mark.parametrize(
    ("path", "kind", "value"),
    [
        ("", "object", STATE),
        ("/notes/a~1b", "array", ["one", "two"]),
        ("/notes/a~1b/1", "string", "two"),
        ("/notes/m~0n", "number", 1),
        ("/done", "boolean", True),
        ("/", "null", None),
    ],
)
def test_a_part_is_what_its_pointer_names(path: str, kind: str, value: Any) -> None:
    part = part_of(STATE, path, limit=1_000, offset=0)

    assert (part.kind, part.value, part.left_out) == (kind, value, False)
    assert part.size == len(serialization.dump(value))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("notes", "'notes' is no JSON Pointer"),
        ("/notes/c", "at '/notes' is 'object', without 'c'"),
        ("/notes/a~1b/2", "at '/notes/a~1b' is 'array', without '2'"),
        ("/notes/a~1b/-1", "without '-1'"),
        ("/done/x", "at '/done' is 'boolean', without 'x'"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(path: str, said: str) -> None:
    with pytest.raises(ToolError, match="path") as caught:
        part_of(STATE, path, limit=1_000, offset=0)

    assert said in f"{caught.value}"


@given(value=JSON)
def test_all_of_a_value_is_reached_by_small_parts(value: Any) -> None:
    def whole(path: str) -> Any:
        """A value, put together of parts of 20 bytes."""
        pieces, members, offset = [], [], 0
        while True:
            part = part_of(value, path, limit=20, offset=offset)
            if not part.left_out:
                return part.value
            if part.kind not in ("string", "array", "object"):
                return part_of(value, path, limit=1_000, offset=0).value
            pieces.append(part.value)
            members += part.parts or []
            offset = part.next_offset or 0
            if part.next_offset is None:
                break
        if part.kind == "string":
            return "".join(pieces)
        read = [whole(each.path) if each.left_out else each.value for each in members]
        if part.kind == "array":
            return read
        names = [
            each.path.rpartition("/")[2].replace("~1", "/").replace("~0", "~") for each in members
        ]
        return dict(zip(names, read, strict=True))

    assert whole("") == value


def test_a_large_value_is_its_members_within_the_limit() -> None:
    state = {"small": 1, "large": "x" * 16_000_000, "list": [*range(1_000)]}

    part = part_of(state, "", limit=100, offset=0)

    assert len(part.model_dump_json()) < 1_000
    assert part.parts is not None
    assert [(each.path, each.left_out) for each in part.parts] == [
        ("/small", False),
        ("/large", True),
        ("/list", True),
    ]
    assert part.parts[1].size == 16_000_002
    numbers = part_of(state, "/list", limit=100, offset=0)
    assert (len(numbers.parts or []), numbers.next_offset) == (100, 100)


def test_large_values_are_left_out_of_a_patch() -> None:
    patch = [{"op": "add", "path": f"/{n}", "value": "x" * n} for n in (10, 1_000, 20)] * 50

    changes = changes_of(patch, limit=100, offset=0)

    assert [change.left_out for change in changes.changes[:3]] == [False, True, False]
    assert (len(changes.changes), changes.total, changes.next_offset) == (100, 150, 100)
    rest = changes_of(patch, limit=100, offset=100)
    assert (len(rest.changes), rest.next_offset) == (50, None)
