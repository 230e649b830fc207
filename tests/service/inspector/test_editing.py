"""The pages that correct a state, and that set executions beside each other."""

import json
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient

from html_pages import REST, Seen, log_in
from office import Office
from prefect_executions.blocks.key import Permission
from prefect_executions.executions.creation import Creation


@pytest.fixture
def id_(office: Office) -> str:
    """A paused execution."""
    id_ = office.create(state={"n": 1})
    office.save(id_, {"n": 2, "text": "<b>é</b>"})
    office.executions.pause(id_)
    return id_


def edit(reader: TestClient, id_: str, **changed: str) -> Any:
    page = f"/ui/{id_}/edit"
    shown = Seen(reader.get(page).text).form(page)
    named = {f"answer.{name}": value for name, value in changed.items()}
    return reader.post(page, data=shown | named, follow_redirects=False)


def read(reader: TestClient, id_: str) -> Any:
    return reader.get(f"/v1/execution/{id_}", headers=REST).json()


def test_a_state_is_corrected_by_hand(reader: TestClient, id_: str) -> None:
    page = f"/ui/{id_}/edit"
    assert page in Seen(reader.get(f"/ui/{id_}").text).links
    shown = Seen(reader.get(page).text).form(page)["answer.state"]
    assert json.loads(shown[0]) == {"n": 2, "text": "<b>é</b>"}

    answer = edit(reader, id_, state='{"n": 7}', label="mended", reason="it was lost")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/ui/{id_}")
    newest = read(reader, id_)["checkpoints"][0]
    assert (newest["state"], newest["label"]) == ({"n": 7}, "mended")
    assert (newest["saved_by"], newest["reason"]) == ("settings", "it was lost")
    assert "by settings: it was lost" in reader.get(f"/ui/{id_}").text


def test_nothing_is_written_over_what_was_saved_meanwhile(
    reader: TestClient, office: Office, id_: str
) -> None:
    page = f"/ui/{id_}/edit"
    old = Seen(reader.get(page).text).form(page) | {"answer.state": '{"n": 7}'}
    office.executions.checkpoint(id_, state={"n": 3})

    late = reader.post(page, data=old)

    assert late.status_code == 409
    assert "Meanwhile ckpt_000003 was saved" in late.text
    again = Seen(late.text).form(page)
    assert again["answer.state"] == ['{"n": 7}']
    assert read(reader, id_)["state"] == {"n": 3}
    assert reader.post(page, data=again, follow_redirects=False).status_code == 303
    assert read(reader, id_)["state"] == {"n": 7}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"state": "{"}, "This is no JSON"),
        ({"state": " "}, "Give a value."),
        ({"label": "two\r\nlines"}, "does not match"),
        ({"reason": "x" * 1_001}, "is too long"),
    ],
)
def test_what_is_no_state_is_not_saved(
    reader: TestClient, id_: str, changed: dict[str, str], said: str
) -> None:
    refused = edit(reader, id_, **changed)

    assert refused.status_code == 422
    assert said in unescape(refused.text)
    assert read(reader, id_)["state"]["n"] == 2


def test_a_state_that_is_too_large_for_a_page_is_left_to_the_command(
    reader: TestClient, office: Office
) -> None:
    id_ = office.create(state={"text": "x" * 100_000})

    shown = reader.get(f"/ui/{id_}/edit")

    assert f"prefect-executions edit {id_}" in shown.text
    assert len(shown.content) < 20_000


def test_who_may_only_read_edits_nothing(reader: TestClient, office: Office, id_: str) -> None:
    log_in(reader, office.key(Permission.READ))

    assert f"/ui/{id_}/edit" not in Seen(reader.get(f"/ui/{id_}").text).links
    assert reader.get(f"/ui/{id_}/edit").status_code == 403
    assert reader.post(f"/ui/{id_}/edit").status_code == 403


# ------------------------------------------------------------------ comparing


def test_executions_are_set_beside_the_first(reader: TestClient, office: Office) -> None:
    id_ = office.create(state={"n": 1})
    fork, _ = Creation(office.executions).fork(id_, name="another way", state={"n": 2})
    for each, n in ((id_, 1), (fork.id, 2)):
        body = {"state": {"n": n}, "label": "half", "attempt": 1}
        reader.put(f"/v1/execution/{each}/checkpoint", json=body, headers=REST)
    office.complete(fork.id, {"found": "<i>two</i>"})

    alone = reader.get("/ui/compare", params={"ids": id_}).text
    both = reader.get("/ui/compare", params={"ids": [id_, fork.id, ""]})

    assert f"/ui/compare?ids={id_}&ids={fork.id}" in Seen(alone).links
    assert both.status_code == 200
    assert "&lt;i&gt;two&lt;/i&gt;" in both.text
    assert "1 place differs: <code>/n</code>" in both.text
    assert {f"/ui/{id_}", f"/ui/{fork.id}"} <= set(Seen(both.text).links)


def test_only_what_is_there_is_compared(reader: TestClient, office: Office) -> None:
    id_ = office.create(state={})
    unknown = f"exec_{'0' * 32}"

    assert reader.get("/ui/compare").status_code == 200
    for missing in ([id_, unknown], [unknown], ["<b>"]):
        answer = reader.get("/ui/compare", params={"ids": missing})
        assert answer.status_code == 404
        assert "<b>" not in answer.text
