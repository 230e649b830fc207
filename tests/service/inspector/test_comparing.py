"""The page that sets executions beside each other."""

import json
from html import unescape

import pytest
from fastapi.testclient import TestClient

from html_pages import REST, Seen, log_in
from office import Office
from prefect_executions.blocks.key import Permission
from prefect_executions.executions.comparing import MOST
from prefect_executions.executions.creation import Creation

PAGE = 200_000  # bytes
UNKNOWN = f"exec_{'0' * 32}"


def save(office: Office, id_: str, label: str, state: object) -> None:
    log = office.executions.log(id_)
    log.checkpoint(log.head(), json.dumps(state).encode(), label=label)


@pytest.fixture
def pair(office: Office) -> list[str]:
    """An execution and its fork, which is another way from `half` on."""
    id_ = office.create(state={"n": 1})
    fork, _ = Creation(office.executions).fork(id_, name="another way")
    for each, n in ((id_, 1), (fork.id, 3)):
        save(office, each, "begun", {"n": 0})
        save(office, each, "half", {"n": n, "done": ["<b>"] * n})
    office.complete(fork.id, {"found": "<i>two</i>"})
    return [id_, fork.id]


def test_executions_are_set_beside_the_first(reader: TestClient, pair: list[str]) -> None:
    page = reader.get("/ui/compare", params={"ids": [*pair, ""]})

    assert page.status_code == 200
    seen, shown = Seen(page.text), unescape(" ".join(page.text.split()))
    assert "&lt;i&gt;two&lt;/i&gt;" in page.text
    assert '<code>n</code> <span class="told">1 → 3 (+2)' in shown
    assert '<code>done</code> <span class="told">+2' in shown
    assert "at 1 more label the states are the same" in shown
    compared = reader.get("/v1/execution/compare", params={"ids": pair}, headers=REST).json()
    (half,) = [each for each in compared["checkpoints"] if each["label"] == "half"]
    assert {f"/ui/{each}/{half['ids'][each]}" for each in pair} <= set(seen.links)
    for each in compared["executions"]:
        assert f"<td>{each['requests']:,}</td>" in page.text
    assert seen.form("/ui/compare")["ids"] == [""]  # for one more
    assert page.text.count(f'value="{pair[0]}"') == 1


def test_several_ids_stand_in_one_field(reader: TestClient, pair: list[str]) -> None:
    apart = reader.get("/ui/compare", params={"ids": pair})
    joined = reader.get("/ui/compare", params={"ids": f" {pair[0]}, {pair[1].upper()}\n"})

    assert joined.text == apart.text


def test_a_fork_is_compared_with_its_origin_from_its_page(
    reader: TestClient, pair: list[str]
) -> None:
    address = f"/ui/compare?ids={pair[0]}&ids={pair[1]}"

    assert address in Seen(reader.get(f"/ui/{pair[1]}").text).links
    assert address not in Seen(reader.get(f"/ui/{pair[0]}").text).links
    assert address in Seen(reader.get("/ui/compare", params={"ids": pair[0]}).text).links


def test_states_of_which_none_differs_are_said_to_be_the_same(
    reader: TestClient, office: Office
) -> None:
    ids = [office.create(state={}) for _ in range(2)]
    bare = reader.get("/ui/compare", params={"ids": ids}).text
    for each in ids:
        save(office, each, "half", {"n": 1})

    same = reader.get("/ui/compare", params={"ids": ids}).text

    assert "No label of a checkpoint is in the first and in another one." in bare
    assert "None: at 1 label the states are the same." in same


def test_an_id_that_leads_nowhere_is_told_beside_it(reader: TestClient, office: Office) -> None:
    id_ = office.create(state={})

    assert reader.get("/ui/compare").status_code == 200
    for wrong in ([id_, UNKNOWN, "<b>"], [UNKNOWN], [UNKNOWN, "<b>"]):
        answer = reader.get("/ui/compare", params={"ids": wrong})
        seen = Seen(answer.text)

        assert answer.status_code == 404
        assert "<b>" not in answer.text
        for place, each in enumerate(wrong):
            assert f'name="ids" value="{each}"' in unescape(answer.text)
            if each != id_:
                assert seen.described[f"id-{place}"] == f"id-{place}-error"
                assert "no such execution" in seen.text_of(f"id-{place}-error")
        assert id_ not in wrong or "id-0" not in seen.described


def test_who_may_not_see_an_execution_does_not_compare_it(
    reader: TestClient, office: Office
) -> None:
    ids = [office.create(state={}, agent_id=agent) for agent in ("one", "two")]
    log_in(reader, office.key(Permission.READ, agents=["two"]))

    answer = reader.get("/ui/compare", params={"ids": ids})

    assert answer.status_code == 404
    assert list(Seen(answer.text).described) == ["id-0"]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([f"exec_{n:032x}" for n in range(MOST + 1)], "11 executions: 10 at most"),
        ([UNKNOWN, UNKNOWN.upper()], "Both are the same execution."),
    ],
)
def test_too_many_are_refused_and_so_is_one_twice(
    reader: TestClient, ids: list[str], said: str
) -> None:
    answer = reader.get("/ui/compare", params={"ids": ids})

    assert answer.status_code == 422
    assert said in answer.text


def test_a_page_is_small_however_much_differs(reader: TestClient, office: Office) -> None:
    """Names, labels, keys and results are quotation marks, which take most room on a page."""
    quotes = '"' * 190
    ids = [office.create(state={}) for _ in range(MOST)]
    for n, id_ in enumerate(ids):
        log = office.executions.log(id_)
        head = log.head()
        for place in range(60):
            state = {f"{quotes * 3}{key}": f"{quotes}{n * key}" for key in range(40)}
            data = json.dumps(state).encode()
            head = log.checkpoint(head, data, label=f"{quotes}{place}")
        office.complete(id_, [quotes] * 600)

    page = reader.get("/ui/compare", params={"ids": ids})

    assert page.status_code == 200
    assert len(page.content) < PAGE
    assert "more labels with differences" in page.text
    assert f"prefect-executions compare {ids[0]}" in page.text
