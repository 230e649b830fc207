"""The page that corrects a state by hand."""

import json
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from prefect.states import Running

from html_pages import REST, Seen, log_in
from office import Office
from prefect_executions.blocks.key import Permission
from prefect_executions.executions.creation import Creation
from prefect_executions.ids import flow_run_id


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
    assert "Its newest one is now ckpt_000003, not ckpt_000002." in late.text
    assert f"/ui/{id_}/ckpt_000003" in Seen(late.text).links
    again = Seen(late.text).form(page)
    assert again["answer.state"] == ['{"n": 7}']
    assert read(reader, id_)["state"] == {"n": 3}
    assert reader.post(page, data=again, follow_redirects=False).status_code == 303
    assert read(reader, id_)["state"] == {"n": 7}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"state": '\r\n{"n": 3,\r\n  "m" 4}'}, "no JSON, at line 3, column 7: Expecting ':'"),
        ({"state": '{"n": NaN}'}, "This is no JSON: NaN is not a number there."),
        ({"state": "[" * 100_000}, "It is nested too deep."),
        ({"state": "1" * 5_000}, "A number in it has too many digits."),
        ({"state": '{"n": "\\ud800"}'}, "state.n: "),
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
    seen = Seen(refused.text)
    (name,) = changed
    assert said in seen.text_of(f"answer.{name}-error")
    assert f"answer.{name}-error" in seen.described[f"answer.{name}"]
    typed = seen.form(f"/ui/{id_}/edit")[f"answer.{name}"]
    assert typed == [changed[name]]
    assert read(reader, id_)["state"]["n"] == 2


def test_nothing_is_saved_beside_a_process(reader: TestClient, office: Office) -> None:
    id_ = run_by_a_process(office)

    refused = edit(reader, id_, state='{"n": 7}', reason="it was lost")

    assert refused.status_code == 409
    assert "pause it first" in refused.text
    kept = Seen(refused.text).form(f"/ui/{id_}/edit")
    assert kept["answer.state"] == ['{"n": 7}']
    assert kept["answer.reason"] == ["it was lost"]
    assert read(reader, id_)["state"] == {"n": 1}


def run_by_a_process(office: Office) -> str:
    """An execution that a process runs in Prefect."""
    flow_id = office.prefect.create_flow_from_name(f"flow-{uuid4().hex}")
    office.prefect.create_deployment(flow_id, "idle", tags=["execution"])
    deployment = f"{office.prefect.read_flow(flow_id).name}/idle"
    made, _ = Creation(office.executions).create(name="a run", deployment=deployment)
    office.prefect.set_flow_run_state(flow_run_id(made.id), Running(), force=True)
    log = office.executions.log(made.id)
    log.checkpoint(log.attempt(), b'{"n": 1}')
    return made.id


@pytest.mark.parametrize("state", [{"text": "x" * 150_000}, [""] * 20_000])
def test_a_state_that_is_too_large_for_a_page_is_left_to_the_command(
    reader: TestClient, office: Office, state: Any
) -> None:
    """The second is small, and takes much of a page."""
    id_ = office.create(state=state)

    shown = reader.get(f"/ui/{id_}/edit")

    assert f"prefect-executions edit {id_}" in shown.text
    assert len(shown.content) < 20_000


def test_the_largest_state_that_is_edited_fits_on_a_page(
    reader: TestClient, office: Office
) -> None:
    id_ = office.create(state={"text": "x" * 130_000})

    page = reader.get(f"/ui/{id_}/edit")

    assert json.loads(Seen(page.text).form(f"/ui/{id_}/edit")["answer.state"][0])
    assert len(page.content) < 200_000


def test_who_may_only_read_edits_nothing(reader: TestClient, office: Office, id_: str) -> None:
    log_in(reader, office.key(Permission.READ))

    assert f"/ui/{id_}/edit" not in Seen(reader.get(f"/ui/{id_}").text).links
    assert reader.get(f"/ui/{id_}/edit").status_code == 403
    assert reader.post(f"/ui/{id_}/edit").status_code == 403
