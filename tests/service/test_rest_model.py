"""Random calls on several executions, against a small model of the rules."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from prefect.client.orchestration import get_client

from prefect_executions.local import Stack
from prefect_executions.storage.objects import MemoryObjects
from rest import opened

pytestmark = pytest.mark.long


STATES = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=2)
RETRIES = 1
SOME = {"min_size": 1, "max_size": 3}


@dataclass
class Modelled:
    """The expected values of an execution of an agent outside Prefect."""

    first: Any
    state: Any
    status: str = "running"
    attempt: int = 1
    waits: bool = False  # for an attempt to begin
    fenced: bool = False  # the newest attempt may write no more
    retries: int = 0
    result: Any = None
    checkpoints: dict[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.status in ("running", "paused")

    @property
    def takes_reports(self) -> bool:
        waits = self.waits and self.status == "running"
        return self.is_open and not waits and not self.fenced


class Calls(RuleBasedStateMachine):
    """The calls of agents and people."""

    rest: TestClient

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Modelled] = {}
        self.order: list[str] = []

    # ------------------------------------------------------------------ what is called

    @rule(state=STATES)
    @precondition(lambda self: len(self.known) < 3)
    def create(self, state: Any) -> None:
        body = {"name": "a", "state": state, "config": {"max_retries": RETRIES}}
        self._know(self._call("POST", "", 201, body), Modelled(state, state))

    @rule(data=st.data(), state=STATES)
    @precondition(lambda self: self.known)
    def save_by_hand(self, data: st.DataObject, state: Any) -> None:
        id_, it = self._any(data)
        self._save(id_, it, 201 if it.is_open else 409, {"state": state})

    @rule(data=st.data(), state=STATES, behind=st.sampled_from([0, 0, 1]))
    @precondition(lambda self: self.known)
    def save(self, data: st.DataObject, state: Any, behind: int) -> None:
        id_, it = self._any(data)
        expected = 201 if it.takes_reports and not behind else 409
        self._save(id_, it, expected, {"state": state, "attempt": it.attempt - behind})

    @rule(data=st.data(), behind=st.sampled_from([0, 0, 1]))
    @precondition(lambda self: self.known)
    def send_heartbeat(self, data: st.DataObject, behind: int) -> None:
        id_, it = self._any(data)
        expected = 200 if it.takes_reports and not behind else 409
        told = self._call("POST", f"/{id_}/heartbeat", expected, {"attempt": it.attempt - behind})
        if expected == 200:
            assert told == {"status": it.status, "attempt": it.attempt}

    @rule(data=st.data())
    @precondition(lambda self: self.known)
    def pause(self, data: st.DataObject) -> None:
        id_, it = self._any(data)
        self._call("POST", f"/{id_}/pause", self._pausing(it), {})

    @rule(data=st.data(), back=st.booleans())
    @precondition(lambda self: self.known)
    def resume(self, data: st.DataObject, back: bool) -> None:
        id_, it = self._any(data)
        to = data.draw(st.sampled_from(["ckpt_000000", *it.checkpoints])) if back else None
        expected = 202 if it.status in ("paused", "failed", "terminated") else 409
        self._call("POST", f"/{id_}/resume", expected, {"checkpoint_id": to})
        if expected == 202:
            it.status, it.waits = "running", True
            if to is not None:
                it.state, it.fenced = it.checkpoints.get(to, it.first), True

    @rule(data=st.data())
    @precondition(lambda self: self.known)
    def begin(self, data: st.DataObject) -> None:
        id_, it = self._any(data)
        expected = 201 if it.status == "running" else 409
        begun = self._call("POST", f"/{id_}/attempt", expected)
        if expected == 201:
            it.attempt, it.waits, it.fenced = it.attempt + 1, False, False
            assert begun["state"] == it.state
            assert begun["prefect"]["attempt"] == it.attempt

    @rule(data=st.data(), result=STATES)
    @precondition(lambda self: self.known)
    def complete(self, data: st.DataObject, result: Any) -> None:
        id_, it = self._any(data)
        takes = it.takes_reports or it.status == "completed"
        body = {"result": result, "attempt": it.attempt}
        told = self._call("POST", f"/{id_}/complete", 202 if takes else 409, body)
        if it.takes_reports:
            it.status, it.result, it.fenced = "completed", result, True
        if takes:
            assert told["result"] == it.result

    @rule(data=st.data(), state=STATES)
    @precondition(lambda self: self.known)
    def fail(self, data: st.DataObject, state: Any) -> None:
        id_, it = self._any(data)
        expected = 202 if it.takes_reports else 409
        body = {"error": "no", "state": state, "attempt": it.attempt}
        before = it.state
        self._call("POST", f"/{id_}/fail", expected, body)
        if expected == 409:
            return
        if state != before:
            it.state = state
            newest = self._call("GET", f"/{id_}/checkpoints?limit=1", 200)
            it.checkpoints[newest["items"][0]["id"]] = state
        if it.retries < RETRIES:
            it.retries += 1
            it.status, it.waits, it.fenced = "running", True, True
        else:
            it.status = "failed"

    @rule(data=st.data())
    @precondition(lambda self: self.known and len(self.known) < 4)
    def fork(self, data: st.DataObject) -> None:
        id_, it = self._any(data)
        made = self._call("POST", f"/{id_}/fork", 201, {})
        self._know(made, Modelled(it.state, it.state))

    @rule(data=st.data())
    @precondition(lambda self: self.known)
    def delete(self, data: st.DataObject) -> None:
        id_, _ = self._any(data)
        self._call("DELETE", f"/{id_}", 204)
        self._forget(id_)

    @rule(data=st.data())
    @precondition(lambda self: self.known)
    def pause_many(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(self.order), unique=True, **SOME))
        done = self._call("POST", "/bulk", 200, {"action": "pause", "ids": ids})
        for item in done["items"]:
            it = self.known[item["id"]]
            assert item["ok"] == (self._pausing(it) != 409)
            assert item["status"] == it.status

    @rule()
    @precondition(lambda self: self.known)
    def delete_what_has_ended(self) -> None:
        filter_ = {"status": ["completed", "failed", "terminated"]}
        done = self._call("POST", "/bulk", 200, {"action": "delete", "filter": filter_})
        ended = [id_ for id_, it in self.known.items() if not it.is_open]
        assert sorted(item["id"] for item in done["items"]) == sorted(ended)
        for item in done["items"]:
            assert item["ok"]
            self._forget(item["id"])

    # ------------------------------------------------------------------ what has to be so

    def teardown(self) -> None:
        """At the end everything is as in the model."""
        listed = self._call("GET", "", 200)["items"]
        assert [item["id"] for item in listed] == self.order[::-1]
        for item in listed:
            it = self.known[item["id"]]
            assert item["status"] == it.status
            self._compare(item["id"], it)
            self._call("DELETE", f"/{item['id']}", 204)

    def _compare(self, id_: str, it: Modelled) -> None:
        told = self._call("GET", f"/{id_}?checkpoints=all", 200)
        assert told["status"] == it.status
        assert told["state"] == it.state
        assert told["prefect"]["attempt"] == it.attempt
        assert told["result"] == (it.result if it.status == "completed" else None)
        assert {point["id"]: point["state"] for point in told["checkpoints"]} == it.checkpoints
        assert it.checkpoints.get(told["continues_from"], it.state) == it.state

    def _know(self, told: Any, it: Modelled) -> None:
        self.known[told["id"]] = it
        self.order.append(told["id"])
        self._compare(told["id"], it)

    def _forget(self, id_: str) -> None:
        del self.known[id_]
        self.order.remove(id_)
        self._call("GET", f"/{id_}", 404)

    def _any(self, data: st.DataObject) -> tuple[str, Modelled]:
        id_ = data.draw(st.sampled_from(self.order))
        return id_, self.known[id_]

    def _save(self, id_: str, it: Modelled, expected: int, body: Any) -> None:
        saved = self._call("PUT", f"/{id_}/checkpoint", expected, body)
        if expected == 201:
            assert (saved["status"], saved["attempt"]) == (it.status, it.attempt)
            it.state = it.checkpoints[saved["checkpoint"]["id"]] = body["state"]
        self._compare(id_, it)

    def _pausing(self, it: Modelled) -> int:
        """Pause in the model; returns the expected answer."""
        if not it.is_open:
            return 409
        was, it.status = it.status, "paused"
        return 202 if was == "running" else 200

    def _call(self, method: str, path: str, expected: int, body: Any = None) -> Any:
        answer = self.rest.request(method, f"/v1/execution{path}", json=body)
        assert answer.status_code == expected, f"{method} {path} {body}: {answer.text}"
        return answer.json() if answer.content else None


def test_random_calls_agree_with_the_model(stack: Stack) -> None:
    with (
        get_client(sync_client=True) as prefect,
        opened(prefect, MemoryObjects()) as Calls.rest,
    ):
        run_machine(
            Calls,
            settings=settings(
                max_examples=25,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
