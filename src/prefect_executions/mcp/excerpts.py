"""Parts of large JSON values: by path, up to a limit."""

from collections.abc import Iterator
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError

from prefect_executions import serialization
from prefect_executions.mcp.answers import ChangeLine, ChangeLines, JsonKind, JsonPart, StatePart

MEMBERS = 100  # of an object, array or patch, at once


def part_of(value: Any, path: str, *, limit: int, offset: int) -> StatePart:
    """The part of a JSON value at a path, or what that consists of.

    Args:
        value: The whole.
        path: A JSON Pointer (RFC 6901).
        limit: How many bytes of JSON of values to include at most.
        offset: How many members of an object or array, or characters of a text, to leave out.

    Raises:
        ToolError: There is nothing at the path.
    """
    found = _at(value, path)
    size = len(serialization.dump(found))
    shown = StatePart(path=path, kind=_kind(found), size=size)
    if size <= limit and not offset:
        shown.value = found
        return shown
    shown.left_out = True
    if isinstance(found, str):
        shown.value = found[offset : offset + limit]
        shown.next_offset = _after(offset + limit, len(found))
    elif isinstance(found, dict | list):
        shown.parts = [*_members(found, path, limit, offset)]
        shown.next_offset = _after(offset + len(shown.parts), len(found))
    return shown


def changes_of(patch: list[dict[str, Any]], *, limit: int, offset: int) -> ChangeLines:
    """Some operations of a patch, with their values as far as the limit goes."""
    shown = []
    for operation in patch[offset : offset + MEMBERS]:
        change = ChangeLine.model_validate(operation)
        size = len(serialization.dump(change.value))
        limit -= size
        if limit < 0:
            limit += size
            change.value, change.left_out = None, True
        shown.append(change)
    return ChangeLines(
        changes=shown, total=len(patch), next_offset=_after(offset + MEMBERS, len(patch))
    )


def _at(value: Any, path: str) -> Any:
    if path and not path.startswith("/"):
        raise ToolError(
            f"path: {path!r} is no JSON Pointer. Give one as in /notes/0, or nothing for the whole."
        )
    done = ""
    for token in path.split("/")[1:]:
        part = token.replace("~1", "/").replace("~0", "~")
        try:
            value = _member(value, part)
        except LookupError:
            raise ToolError(
                f"path: at {done!r} is {_kind(value)!r}, without {part!r}. "
                f"get_state with the path {done!r} shows what is there."
            ) from None
        done = f"{done}/{token}"
    return value


def _member(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value[part]
    if isinstance(value, list) and part.isascii() and part.isdigit():
        return value[int(part)]
    raise LookupError(part)


def _members(
    found: dict[str, Any] | list[Any], path: str, limit: int, offset: int
) -> Iterator[JsonPart]:
    pairs: list[tuple[Any, Any]] = [
        *(found.items() if isinstance(found, dict) else enumerate(found))
    ]
    for name, value in pairs[offset : offset + MEMBERS]:
        token = f"{name}".replace("~", "~0").replace("/", "~1")
        size = len(serialization.dump(value))
        part = JsonPart(path=f"{path}/{token}", kind=_kind(value), size=size)
        if size <= limit:
            limit -= size
            part.value = value
        else:
            part.left_out = True
        yield part


def _kind(value: Any) -> JsonKind:
    if value is None:
        return "null"
    kinds: dict[type, JsonKind] = {
        dict: "object",
        list: "array",
        str: "string",
        bool: "boolean",
    }
    return kinds.get(type(value), "number")


def _after(offset: int, total: int) -> int | None:
    return offset if offset < total else None
