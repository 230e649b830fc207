"""The state as a tree, what is found in it, and what has changed."""

from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from html_pages import Seen
from office import Office
from prefect_executions.service.inspector.trees import FOUND, ROOM, Node, inside, search, tree

PAGE = 200_000  # bytes

KEYS = st.text("a/~.0", max_size=3)
JSON = st.recursive(
    st.none() | st.integers(0, 9) | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def nodes(node: Node) -> list[Node]:
    return [node, *(each for child in node.children for each in nodes(child))]


@given(JSON)
def test_each_node_is_found_again_by_its_pointer(value: Any) -> None:
    for node in nodes(tree(value, {})):
        part, path = inside(value, node.pointer)

        assert path == node.path
        is_container = isinstance(part, dict | list)
        assert len(node.children) + node.left_out == (len(part) if is_container else 0)


def test_a_large_state_takes_no_more_room_than_there_is() -> None:
    state = {"pages": [{"n": n, "text": "x" * 1_000} for n in range(1_000)], "done": 1}

    root = tree(state, {("pages", 900, "n"): "899 → 900 (+1)"})

    shown = nodes(root)
    assert len(shown) <= ROOM + 1
    pages = root.children[0]
    assert pages.left_out == 1_000 - len(pages.children)
    (changed,) = [node for node in shown if node.changed]
    assert changed.path == ("pages", 900, "n")
    assert [node.is_open for node in (root, pages, pages.children[-1])] == [True, True, True]


def test_keys_and_values_are_found_in_any_case() -> None:
    state = {"Notes": [{"claim": "CHEAP"}, {"claim": "dear"}], "cheap": {"n": 1}}

    assert [node.words for node in search(state, "cheap")] == ["Notes[0].claim", "cheap"]
    assert len(search(["x"] * 1_000, "x")) == FOUND + 1


@pytest.mark.parametrize("pointer", ["/no", "/list/9", "/list/x", "/list/0/x"])
def test_what_is_not_there_is_said(reader: TestClient, office: Office, pointer: str) -> None:
    page = f"/ui/{office.create(state={'list': [1]})}"

    shown = reader.get(page, params={"tab": "state", "at": pointer}).text

    assert "The state has nothing at" in shown


def test_a_state_folds_and_is_marked_where_it_has_changed(
    reader: TestClient, office: Office
) -> None:
    id_ = office.create(state={})
    nested = {"deep": {"deeper": ["<b>"]}}
    first, second = office.save(id_, {"n": 1, "same": nested}, {"n": 3, "same": nested})
    page = f"/ui/{id_}"

    shown = unescape(reader.get(page, params={"tab": "state"}).text)
    older = unescape(reader.get(f"{page}/{first}").text)
    part = reader.get(page, params={"tab": "state", "at": "/same/deep"}).text
    found = reader.get(page, params={"tab": "state", "find": "DEEPER"}).text

    assert "1 → 3 (+2)" in shown
    assert f'Marked is what differs from <a href="{page}/{first}">' in shown
    assert 'data-path="same.deep.deeper[0]"' in shown
    assert "1 → 3" not in older
    assert 'data-path="same.deep.deeper"' in part
    assert 'data-path="n"' not in part
    assert 'data-path="same.deep.deeper"' in found
    assert "<b>" not in part + found
    assert f"{page}/{second}/state.json" in Seen(shown).links


def test_the_last_two_checkpoints_that_differ_are_compared(
    reader: TestClient, office: Office
) -> None:
    id_ = office.create(state={})
    saved = office.save(id_, {"done": [1]}, {"done": [1, 2, 3]}, {"done": [1, 2, 3]})

    shown = unescape(reader.get(f"/ui/{id_}/diff").text)
    same = reader.get(f"/ui/{id_}/diff", params={"from": saved[1], "to": saved[2]}).text
    none = reader.get(f"/ui/{office.create(state={})}/diff").text

    assert '<code>done</code> <span class="told">+2</span>' in shown
    assert f'<option value="{saved[0]}" selected>' in shown
    assert f'<option value="{saved[1]}" selected>' in shown
    assert "The states are the same" in same
    assert "No two of its newest checkpoints differ" in none


def test_pages_of_a_large_state_are_small(reader: TestClient, office: Office) -> None:
    id_ = office.create(state={})
    pages = [{"n": n, "text": f"{n} " * 250} for n in range(1_000)]
    office.save(id_, {"pages": pages, "done": 1}, {"pages": pages[::-1], "done": 2})
    page = f"/ui/{id_}"

    for path, params in [
        (page, {}),
        (page, {"tab": "state"}),
        (page, {"tab": "state", "at": "/pages"}),
        (page, {"tab": "state", "find": "1"}),
        (f"{page}/diff", {}),
        (f"{page}/ckpt_000002/roll-back", {}),
    ]:
        answer = reader.get(path, params=params)
        assert answer.status_code == 200
        assert len(answer.content) < PAGE, (path, params)
