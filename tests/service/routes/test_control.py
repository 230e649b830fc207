"""Pausing, resuming and rolling back executions over REST."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Cancelling, Completed, Failed, Running, Suspended

from prefect_executions.errors import PrefectUnavailable
from prefect_executions.executions.executions import Executions
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.pauses import Form, paused, question_key, save_form
from prefect_executions.prefect.states import state_of
from rest import Away, assert_field, assert_problem, path, run_id


def test_pause_twice_is_202_and_200(execution: dict[str, Any], rest: TestClient) -> None:
    first = rest.post(path(execution, "/pause"), json={"reason": "to look"})
    second = rest.post(path(execution, "/pause"))

    assert (first.status_code, first.json()["status"]) == (202, "paused")
    assert (second.status_code, second.json()["status"]) == (200, "paused")


def test_pause_has_no_end_of_its_own(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    rest.post(path(execution, "/pause"), json={"reason": "to look"})

    state = prefect.read_flow_run(run_id(execution)).state  # type: ignore[arg-type]

    assert state is not None
    assert state.state_details.pause_timeout is None
    assert state.message == "to look"


def test_a_question_is_there_until_it_is_answered(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    assert_problem(rest.get(path(execution, "/question")), 404, "question_not_found")
    key, run = question_key(), UUID(run_id(execution))
    schema = {"type": "object", "properties": {"approved": {"type": "boolean"}}}
    prefect.set_flow_run_state(run, Running())
    prefect.set_flow_run_state(run, paused(key, "Go on?"))
    state = state_of(prefect.read_flow_run(run))
    assert_problem(rest.get(path(execution, "/question")), 404, "question_not_found")  # not yet
    save_form(prefect, run, state, Form(schema, "Go **on**?"))

    asked = rest.get(path(execution, "/question"))
    rest.post(path(execution, "/resume"), json={"input": {"approved": True}})

    assert asked.status_code == 200
    assert asked.json() | {"asked_at": None} == {
        "execution_id": execution["id"],
        "id": key,
        "prompt": "Go **on**?",
        "answer_schema": schema,
        "asked_at": None,
    }
    assert_problem(rest.get(path(execution, "/question")), 404, "question_not_found")


def test_a_pause_asks_no_question(execution: dict[str, Any], rest: TestClient) -> None:
    rest.post(path(execution, "/pause"), json={"reason": "to look"})

    assert_problem(rest.get(path(execution, "/question")), 404, "question_not_found")


def test_resume_rolls_back(execution: dict[str, Any], rest: TestClient, store: Away) -> None:
    for n in range(3):
        rest.put(path(execution, "/checkpoint"), json={"state": n})
    rest.post(path(execution, "/pause"))

    answer = rest.post(
        path(execution, "/resume"),
        json={"checkpoint_id": "ckpt_000002", "reason": "It lost a source."},
    )

    assert answer.status_code == 202
    assert answer.json()["status"] == "running"
    assert answer.json()["state"] == 1
    assert answer.json()["continues_from"] == "ckpt_000002"
    rolled_back = ExecutionLog(store, execution["id"]).head().entry
    assert (rolled_back.source, rolled_back.reason) == (2, "It lost a source.")


def test_a_reason_that_nothing_would_keep_is_refused(
    execution: dict[str, Any], rest: TestClient
) -> None:
    rest.post(path(execution, "/pause"))

    answer = rest.post(path(execution, "/resume"), json={"reason": "Go on."})

    assert_field(answer, "request_invalid", "reason")
    assert rest.get(path(execution)).json()["status"] == "paused"


def test_resume_starts_over(execution: dict[str, Any], rest: TestClient) -> None:
    rest.put(path(execution, "/checkpoint"), json={"state": 1})
    rest.post(path(execution, "/pause"))

    answer = rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_000000"})

    assert answer.json()["state"] == {"found": []}


def test_a_terminated_execution_can_be_resumed(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    prefect.set_flow_run_state(run_id(execution), Cancelled(), force=True)
    assert rest.get(path(execution)).json()["status"] == "terminated"

    assert rest.post(path(execution, "/resume")).json()["status"] == "running"


def test_cancel_terminates_and_keeps(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    rest.put(path(execution, "/checkpoint"), json={"state": 1})

    first = rest.post(path(execution, "/cancel"))
    second = rest.post(path(execution, "/cancel"))

    assert (first.status_code, first.json()["status"]) == (202, "terminated")
    assert (second.status_code, second.json()["status"]) == (200, "terminated")
    assert rest.get(path(execution)).json()["state"] == 1
    assert rest.post(path(execution, "/resume")).json()["status"] == "running"


def test_cancel_waits_for_the_process(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    prefect.set_flow_run_state(run_id(execution), Running(), force=True)

    asked = rest.post(path(execution, "/cancel"))
    assert (asked.status_code, asked.json()["prefect"]["state_name"]) == (202, "Cancelling")

    prefect.set_flow_run_state(run_id(execution), Cancelled(), force=True)
    ended = rest.post(path(execution, "/cancel"), headers={"Prefer": "wait=1"})
    assert (ended.status_code, ended.json()["prefect"]["state_name"]) == (200, "Cancelled")


@pytest.mark.parametrize("end", [Completed(), Failed()], ids=lambda state: state.name)
def test_what_has_ended_by_itself_is_not_cancelled(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient, end: State[Any]
) -> None:
    prefect.set_flow_run_state(run_id(execution), end, force=True)

    answer = rest.post(path(execution, "/cancel"))

    assert "ended by itself" in assert_problem(answer, 409, "status_conflict")["detail"]


def test_a_running_one_is_rolled_back_by_force_alone(
    execution: dict[str, Any], rest: TestClient, store: Away, prefect: SyncPrefectClient
) -> None:
    for n in range(3):
        rest.put(path(execution, "/checkpoint"), json={"state": n})
    prefect.set_flow_run_state(run_id(execution), Running(), force=True)
    back = {"checkpoint_id": "ckpt_000001"}

    refused = rest.post(path(execution, "/resume"), json=back)
    assert "Pause it first" in assert_problem(refused, 409, "status_conflict")["detail"]
    unknown = rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_9", "force": True})
    assert_problem(unknown, 404, "checkpoint_not_found")
    answered = rest.post(path(execution, "/resume"), json={**back, "force": True, "input": {}})
    assert_problem(answered, 409, "status_conflict")
    assert rest.get(path(execution)).json()["prefect"]["state_name"] == "Running"
    forced = rest.post(path(execution, "/resume"), json={**back, "force": True})

    assert (forced.status_code, forced.json()["status"]) == (202, "running")
    assert forced.json()["state"] == 0
    assert forced.json()["prefect"]["state_name"] == "AwaitingRetry"
    assert ExecutionLog(store, execution["id"]).head().entry.source == 1


def test_a_run_that_is_just_being_cancelled_is_not_rolled_back(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    for n in range(3):
        rest.put(path(execution, "/checkpoint"), json={"state": n})
    for state in (Running(), Cancelling()):
        prefect.set_flow_run_state(run_id(execution), state, force=True)
    before = rest.get(path(execution)).json()

    answer = rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_000001"})

    assert "when its process has ended" in assert_problem(answer, 409, "status_conflict")["detail"]
    assert rest.get(path(execution)).json() == before


def test_a_run_that_nobody_ends_cancelling_is_ended(
    execution: dict[str, Any],
    rest: TestClient,
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its worker died with its process; it can still be rolled back, and deleted."""
    monkeypatch.setattr("prefect_executions.prefect.transitions.CANCEL_ENDS", timedelta(0))
    rest.put(path(execution, "/checkpoint"), json={"state": 1})
    for act in (
        lambda: rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_000001"}),
        lambda: rest.delete(path(execution)),
    ):
        for state in (Running(), Cancelling()):
            prefect.set_flow_run_state(run_id(execution), state, force=True)

        assert act().status_code in (202, 204)
    assert_problem(rest.get(path(execution)), 404, "execution_not_found")


def test_a_pause_whose_time_is_over_can_be_resumed(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    """The Prefect UI gives a pause five minutes, after which Prefect fails the run."""
    rest.put(path(execution, "/checkpoint"), json={"state": 1})
    expired = Suspended(pause_expiration_time=datetime.now(UTC) - timedelta(seconds=1))
    prefect.set_flow_run_state(run_id(execution), expired, force=True)

    answer = rest.post(path(execution, "/resume"), json={"checkpoint_id": "ckpt_000001"})

    assert (answer.status_code, answer.json()["status"]) == (202, "running")


def test_a_half_deleted_execution_can_not_be_paused(
    rest: TestClient, execution: dict[str, Any], store: Away, prefect: SyncPrefectClient
) -> None:
    ExecutionLog(store, execution["id"]).delete()

    answer = rest.post(path(execution, "/pause"))

    assert answer.status_code == 404
    run = prefect.read_flow_run(UUID(execution["prefect"]["flow_run_id"]))
    assert run.state is not None
    assert run.state.name == "Scheduled"


def test_an_unknown_checkpoint_is_404_and_changes_nothing(
    execution: dict[str, Any], rest: TestClient
) -> None:
    rest.post(path(execution, "/pause"))
    before = rest.get(path(execution)).json()

    for unknown in ("ckpt_000099", "ckpt_1", "nothing", ""):
        answer = rest.post(path(execution, "/resume"), json={"checkpoint_id": unknown})

        assert_problem(answer, 404, "checkpoint_not_found")
    assert rest.get(path(execution)).json() == before


def test_resume_in_another_deployment_is_422_and_names_the_call_that_does_it(
    execution: dict[str, Any], rest: TestClient
) -> None:
    rest.post(path(execution, "/pause"))

    answer = rest.post(path(execution, "/resume"), json={"deployment": "flow/other"})
    problem = assert_problem(answer, 422, "request_invalid")

    assert [error["field"] for error in problem["errors"]] == ["deployment"]
    assert '/fork with {"deployment": "flow-name/deployment-name"}' in problem["detail"]
    assert rest.post(path(execution, "/resume"), json={"deployment": None}).status_code == 202


def test_resume_of_a_running_one_is_409(execution: dict[str, Any], rest: TestClient) -> None:
    rest.put(path(execution, "/checkpoint"), json={"state": 1})
    before = rest.get(path(execution)).json()

    for body in ({}, {"checkpoint_id": "ckpt_000001"}):
        assert_problem(rest.post(path(execution, "/resume"), json=body), 409, "status_conflict")
    assert rest.get(path(execution)).json() == before


def test_of_an_ended_one_everything_is_409(
    execution: dict[str, Any], rest: TestClient, prefect: SyncPrefectClient
) -> None:
    prefect.set_flow_run_state(run_id(execution), Completed(), force=True)
    before = rest.get(path(execution)).json()

    for answer in (
        rest.post(path(execution, "/pause")),
        rest.post(path(execution, "/resume")),
        rest.put(path(execution, "/checkpoint"), json={"state": 1}),
    ):
        assert_problem(answer, 409, "status_conflict")
    assert rest.get(path(execution)).json() == before


@pytest.mark.parametrize("value", ['"\\udaad"', "1e999", "18446744073709551616"])
def test_an_answer_that_is_no_json_is_refused(
    rest: TestClient, execution: dict[str, Any], value: str
) -> None:
    rest.post(path(execution, "/pause"))
    body = f'{{"input": {{"a": [{value}]}}}}'
    kind = {"Content-Type": "application/json"}

    answer = rest.post(path(execution, "/resume"), content=body, headers=kind)

    assert answer.status_code == 422
    assert answer.json()["code"] in ("input_invalid", "request_invalid")
    assert rest.get(path(execution)).json()["status"] == "paused"


def test_who_waits_for_a_pause_is_told_when_no_process_is_at_work(
    rest: TestClient, execution: dict[str, Any]
) -> None:
    """No process has begun, so the answer comes at once."""
    paused = rest.post(path(execution, "/pause"), headers={"Prefer": "wait=30"})

    assert paused.status_code == 200
    assert paused.headers["Preference-Applied"] == "wait=30"


def test_who_waits_in_vain_is_told_so(rest: TestClient, execution: dict[str, Any]) -> None:
    rest.post(path(execution, "/pause"))

    resumed = rest.post(path(execution, "/resume"), headers={"Prefer": "respond-async, wait=0"})

    assert resumed.status_code == 202
    assert resumed.headers["Preference-Applied"] == "wait=0"


def test_who_waits_for_a_resume_is_told_when_it_has_begun(rest: TestClient) -> None:
    agent = rest.post("/v1/execution", json={"name": "a"}).json()
    rest.post(path(agent, "/pause"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rest.post, path(agent, "/resume"), headers={"Prefer": "wait=30"})
        while rest.post(path(agent, "/attempt")).status_code != 201:
            assert not waiting.done()

    assert waiting.result().status_code == 200
    assert waiting.result().json()["prefect"]["attempt"] == 2
    assert waiting.result().json()["steps_behind"] == []


def test_what_was_done_is_not_undone_by_a_prefect_that_is_away_just_then(
    rest: TestClient, execution: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> bool:
        raise PrefectUnavailable("just now")

    monkeypatch.setattr(Executions, "has_left", away)

    paused = rest.post(path(execution, "/pause"), headers={"Prefer": "wait=1"})

    assert (paused.status_code, paused.json()["status"]) == (202, "paused")


def test_who_waits_for_the_pause_of_an_agent_is_told_when_the_agent_is(rest: TestClient) -> None:
    agent = rest.post("/v1/execution", json={"name": "a"}).json()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rest.post, path(agent, "/pause"), headers={"Prefer": "wait=30"})
        saved = {"status": "running"}
        while saved["status"] == "running":
            assert not waiting.done()
            saved = rest.put(path(agent, "/checkpoint"), json={"state": 1, "attempt": 1}).json()

    assert waiting.result().status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"effects": "none"}, "request_invalid", "effects"),
        ({"count": 0}, "request_invalid", "count"),
        ({"count": 101}, "request_invalid", "count"),
        ({"count": "2"}, "request_invalid", "count"),
        ({"patch": {}}, "request_invalid", "patch"),
        ({"parameters": []}, "request_invalid", "parameters"),
        ({"config": {"max_retries": -1}}, "request_invalid", "config.max_retries"),
        ({"patch": [{"op": "remove", "path": "/x"}]}, "state_invalid", "patch"),
        ({"patch": [], "state": None}, "state_invalid", "patch"),
        ({"checkpoint_id": "ckpt_000099"}, "checkpoint_not_found", None),
    ],
)
def test_a_fork_that_can_not_be_is_refused_and_not_made(
    execution: dict[str, Any], rest: TestClient, body: dict[str, Any], code: str, field: str | None
) -> None:
    answer = rest.post(path(execution, "/fork"), json=body)

    assert answer.json()["code"] == code, answer.text
    if field is not None:
        assert_field(answer, code, field)
    forks = rest.get("/v1/execution", params={"forked_from": execution["id"]}).json()
    assert forks["items"] == []


@pytest.mark.parametrize("body", [{"effects": "refuse"}, {"parameters": {}}])
def test_a_fork_of_an_agent_s_execution_has_neither_steps_nor_parameters(
    rest: TestClient, body: dict[str, Any]
) -> None:
    made = rest.post("/v1/execution", json={"name": "an agent's"}).json()

    problem = assert_problem(rest.post(path(made, "/fork"), json=body), 409, "status_conflict")

    assert f"leave out `{next(iter(body))}`" in problem["detail"]


def test_several_forks_are_answered_with_the_first(
    execution: dict[str, Any], rest: TestClient
) -> None:
    answer = rest.post(path(execution, "/fork"), json={"count": 3, "state": None, "name": "b"})

    made = answer.json()
    assert (answer.status_code, made["name"], made["state"]) == (201, "b 1", None)
    assert answer.headers["Location"].endswith(made["id"])
    forks = rest.get("/v1/execution", params={"forked_from": execution["id"]}).json()
    assert {item["id"] for item in forks["items"]} == {*made["forks"]}
    assert len(made["forks"]) == 3
