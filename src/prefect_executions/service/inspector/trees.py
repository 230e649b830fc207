"""A JSON value as a tree that folds: as much of it as a page has room for, the rest by links."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect_executions.service.inspector.differences import brief, pointer_of

ROOM = 500  # nodes of a page
CHILDREN = (100, 40, 20, 10)  # of a node, by its depth
FOUND = 100  # places that a search tells
_OPEN = 12  # children up to which a node is unfolded at first
_TEXT = 160  # characters of a value

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Node:
    """A value in a tree.

    Args:
        path: The keys and places that lead to it.
        told: The value; of an object or list how large it is.
        kind: `object`, `list`, `text`, `number` or `other`.
        changed: What has become of it with the newest checkpoint; "" for nothing.
        is_open: Whether it is unfolded at first.
        children: What is in it, as far as there is room.
        left_out: How many children there is no room for.
    """

    path: Path
    told: str
    kind: str
    changed: str = ""
    is_open: bool = False
    children: list["Node"] = field(default_factory=list)
    left_out: int = 0

    @property
    def key(self) -> str:
        """The last key or place of its path."""
        return f"{self.path[-1]}" if self.path else "state"

    @property
    def pointer(self) -> str:
        """Its path, as a JSON Pointer (RFC 6901)."""
        parts = (f"{part}".replace("~", "~0").replace("/", "~1") for part in self.path)
        return "".join(f"/{part}" for part in parts)

    @property
    def words(self) -> str:
        """Its path, as people write it."""
        return pointer_of(self.path)


def tree(value: Any, changed: Mapping[Path, str], at: Path = ()) -> Node:
    """A value as a tree.

    Args:
        value: The value.
        changed: What has become of the places that have changed, by their paths.
        at: The path of the value.
    """
    above = {path[:length] for path in changed for length in range(len(path))}
    root = _node(value, at, changed)
    root.is_open = True
    waiting = deque([(root, value)])
    room = ROOM
    while waiting:
        node, inside = waiting.popleft()
        parts = [*_parts(inside)]
        depth = len(node.path) - len(at)
        shown = parts[: min(CHILDREN[min(depth, len(CHILDREN) - 1)], room)]
        # What has changed has a place, even at the end of a long list.
        known = {key for key, _ in shown}
        shown += [
            part
            for part in parts[len(shown) :]
            if part[0] not in known and _is_marked((*node.path, part[0]), changed, above)
        ][: max(room - len(shown), 0)]
        room -= len(shown)
        node.left_out = len(parts) - len(shown)
        for key, part in shown:
            path = (*node.path, key)
            child = _node(part, path, changed)
            few = depth < 1 and isinstance(part, dict | list) and len(part) <= _OPEN
            child.is_open = path in above or few
            node.children.append(child)
            if isinstance(part, dict | list):
                waiting.append((child, part))
    return root


def _is_marked(path: Path, changed: Mapping[Path, str], above: set[Path]) -> bool:
    return path in changed or path in above


def _node(value: Any, path: Path, changed: Mapping[Path, str]) -> Node:
    kinds = {dict: "object", list: "list", str: "text", int: "number", float: "number"}
    return Node(path, brief(value, _TEXT), kinds.get(type(value), "other"), changed.get(path, ""))


def _parts(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def inside(value: Any, pointer: str) -> tuple[Any, Path]:
    """What a JSON Pointer leads to in a value, and its path.

    Raises:
        LookupError: It leads nowhere.
    """
    path: Path = ()
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list):
            if not key.isdecimal() or int(key) >= len(value):
                raise LookupError(pointer)
            value, path = value[int(key)], (*path, int(key))
        elif isinstance(value, dict) and key in value:
            value, path = value[key], (*path, key)
        else:
            raise LookupError(pointer)
    return value, path


def search(value: Any, wanted: str) -> list[Node]:
    """The places whose key or value has a text, in any case of letters; `FOUND` and one at most."""
    wanted, found = wanted.casefold(), list[Node]()
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting and len(found) <= FOUND:
        path, here = waiting.pop()
        is_leaf = not isinstance(here, dict | list)
        in_key = bool(path) and isinstance(path[-1], str) and wanted in path[-1].casefold()
        if in_key or (is_leaf and wanted in f"{here}".casefold()):
            found.append(_node(here, path, {}))
        waiting += [((*path, key), part) for key, part in _parts(here)][::-1]
    return found
