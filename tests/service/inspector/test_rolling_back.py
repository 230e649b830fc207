"""Roll-backs and forks in the inspector: what is said before, and what is done."""

from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from html_pages import REST, Seen, log_in
from office import Office
from prefect_executions.blocks.key import Permission
from prefect_executions.log.entry import Kind
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.service.inspector.differences import LONGEST, differences, is_same


def done(order: int, step: str, *, undo: bool = False) -> Record:
    return Record(
        order=order,
        parent=0,
        key=f"{order}",
        step=step,
        at=datetime.now(UTC),
        outcome=Outcome.DONE,
        undo=undo,
        result=b"1",
    )


@pytest.fixture
def id_(office: Office) -> str:
    return office.create(state={"n": 0, "done": []})


@pytest.fixture
def log(office: Office, id_: str) -> ExecutionLog:
    """A log with a good checkpoint, ckpt_000002, and one after it, with steps of two kinds."""
    log = office.executions.log(id_)
    head = log.checkpoint(log.head(), b'{"n": 1, "done": ["one"]}', label="good")
    records = [done(1, "charge", undo=True), done(2, "fetch"), done(3, "fetch")]
    log.checkpoint(head, b'{"n": 3, "done": ["one", "two", "x"]}', label="bad", records=records)
    return log


@pytest.fixture
def page(log: ExecutionLog, id_: str) -> str:
    return f"/ui/{id_}/ckpt_000002/roll-back"


def test_the_page_says_what_a_roll_back_changes(reader: TestClient, page: str) -> None:
    shown = unescape(reader.get(page).text)

    assert "Roll back to good?" in shown
    assert shown.index("1 × charge") < shown.index("will not be undone") < shown.index("2 × fetch")
    assert '<code>n</code> <span class="told">3 → 1 (-2)</span>' in shown
    assert '<code>done</code> <span class="told">-2</span>' in shown
    assert "it is paused first" in shown


def test_who_went_back_and_why_stays_in_the_log(
    reader: TestClient, page: str, log: ExecutionLog, id_: str
) -> None:
    answer = reader.post(page, data={"reason": " it was wrong "}, follow_redirects=False)

    assert (answer.status_code, answer.headers["location"]) == (303, f"/ui/{id_}")
    (back,) = [entry for entry in log.outlines(10) if entry.kind is Kind.ROLLBACK]
    assert (back.source, back.reason, back.saved_by) == (2, "it was wrong", "settings")
    assert log.head().state == b'{"n": 1, "done": ["one"]}'
    shown = reader.get(f"/ui/{id_}").text
    assert "by settings: it was wrong" in shown
    assert "charge will be undone; 2 × fetch will not be undone" in shown


def test_over_rest_it_is_known_too_who_went_back(
    reader: TestClient, page: str, log: ExecutionLog, id_: str
) -> None:
    body = {"checkpoint_id": "ckpt_000002", "force": True}

    assert reader.post(f"/v1/execution/{id_}/resume", json=body, headers=REST).status_code == 202

    (back,) = [entry for entry in log.outlines(10) if entry.kind is Kind.ROLLBACK]
    assert (back.reason, back.saved_by) == (None, "settings")


def test_a_reason_that_is_too_long_is_kept_in_the_form(
    reader: TestClient, page: str, log: ExecutionLog
) -> None:
    refused = reader.post(page, data={"reason": "x" * 1_001})

    assert refused.status_code == 422
    assert "give 1,000 characters at most" in refused.text
    assert Seen(refused.text).form(page)["reason"] == ["x" * 1_001]
    assert log.head().entry.kind is Kind.CHECKPOINT


def test_who_may_not_write_is_offered_no_way_back(
    reader: TestClient, office: Office, page: str, id_: str
) -> None:
    log_in(reader, office.key(Permission.READ))
    pages = [f"/ui/{id_}", f"/ui/{id_}?tab=checkpoints", f"/ui/{id_}/ckpt_000002"]

    links = [link for each in pages for link in Seen(reader.get(each).text).links]

    assert not [link for link in links if "/roll-back" in link or "/fork" in link]
    assert reader.get(page).status_code == reader.post(page).status_code == 403
    assert reader.get(f"/ui/{id_}/fork").status_code == 403
    assert reader.post(f"/ui/{id_}/fork").status_code == 403


# ------------------------------------------------------------------ forks


def fork(reader: TestClient, id_: str, **changed: str) -> Any:
    page = f"/ui/{id_}/fork"
    shown = Seen(reader.get(page, params={"checkpoint": "ckpt_000002"}).text).form(page)
    named = {f"answer.{name}": value for name, value in changed.items()}
    return reader.post(page, data=shown | named, follow_redirects=False)


def test_a_fork_differs_in_what_the_form_says(reader: TestClient, page: str, id_: str) -> None:
    patch = '[{"op": "replace", "path": "/n", "value": 7}]'
    changed = {"name": "another way", "patch": patch, "config.max_retries": "3"}

    answer = fork(reader, id_, **changed)

    assert answer.status_code == 303, answer.text
    there = answer.headers["location"].removeprefix("/ui/")
    made = reader.get(f"/v1/execution/{there}", headers=REST).json()
    assert (made["name"], made["state"]) == ("another way", {"n": 7, "done": ["one"]})
    assert made["config"]["max_retries"] == 3
    assert made["forked_from"]["checkpoint_id"] == "ckpt_000002"
    assert f"{id_[:13]}… at ckpt_000002" in reader.get(f"/ui/{there}").text


def test_several_forks_are_listed(reader: TestClient, page: str, id_: str) -> None:
    answer = fork(reader, id_, count="3")

    there = answer.headers["location"]
    assert there == f"/ui/?forked_from={id_}"
    links = [link for link in Seen(reader.get(there).text).links if "/ui/exec_" in link]
    assert len(set(links) - {f"/ui/{id_}"}) == 3


def test_the_same_form_makes_one_fork(reader: TestClient, page: str, id_: str) -> None:
    form = f"/ui/{id_}/fork"
    sent = Seen(reader.get(form).text).form(form)

    answers = [reader.post(form, data=sent, follow_redirects=False) for _ in range(2)]

    assert len({answer.headers["location"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"count": "101"}, "101 is greater than the maximum of 100"),
        ({"patch": "{"}, "This is no JSON"),
        ({"patch": '[{"op": "remove", "path": "/no"}]'}, "does not fit the state"),
        ({"config.max_retries": "-1"}, "-1 is less than the minimum of 0"),
        ({"checkpoint_id": "ckpt_000099"}, "has no checkpoint"),
    ],
)
def test_what_a_fork_can_not_be_is_said(
    reader: TestClient, page: str, id_: str, changed: dict[str, str], said: str
) -> None:
    refused = fork(reader, id_, **changed)

    assert refused.status_code in (404, 422)
    assert said in unescape(refused.text)
    ((name, value),) = changed.items()
    assert Seen(refused.text).form(f"/ui/{id_}/fork")[f"answer.{name}"] == [value]


# ------------------------------------------------------------------ differences

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_what_differs_is_told_and_nothing_else(before: Any, after: Any) -> None:
    assert bool(differences(before, after)) is not is_same(before, after)
    assert differences(before, before) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"done": [1]}, {"done": [1, 2, 3]}, ["done +2"]),
        ({"done": [1, 2, 3]}, {"done": [1]}, ["done -2"]),
        ({"done": ["a", "c"]}, {"done": ["a", "b", "c"]}, ['done +1, from [1] on: "b"']),
        ({"a": {"b": 1}}, {"a": {"b": 1.5}}, ["a.b 1 → 1.5 (+0.5)"]),
        ({"a": 1}, {"a": True}, ["a 1 → true"]),
        ({"a": 1, "b": 2}, {"b": 2, "c": {}}, ["a was 1", "c {}"]),
        ({"a": "one"}, {"a": "one two"}, ['a +4 characters: " two"']),
        ([{"x": 1}, 2], [{"x": 2}, 2], ["[0].x 1 → 2 (+1)"]),
    ],
)
def test_a_difference_is_told_in_a_few_words(before: Any, after: Any, told: list[str]) -> None:
    assert [f"{each.pointer} {each.told}" for each in differences(before, after)] == told


def test_a_long_path_is_cut() -> None:
    (change,) = differences({}, {"k" * 100_000: 1})

    assert change.pointer == "k" * LONGEST + "…"
