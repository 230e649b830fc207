"""The notification of an event."""

import json
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.events import emit_event
from prefect.events.schemas.events import ReceivedEvent, Resource
from prefect.states import Running

from prefect_executions.ids import execution_id
from prefect_executions.prefect.states import CREATING
from prefect_executions.webhooks.message import message_of
from webhook_world import Receiver, WebhookWorld, states

RUN = uuid4()


def changed(name: str = "Running", **fields: Any) -> ReceivedEvent:
    """Prefect's event of a run that starts."""
    resource = {
        "prefect.resource.id": f"prefect.flow-run.{RUN}",
        "prefect.state-type": "RUNNING",
        "prefect.state-name": name,
        "prefect.state-message": "x" * 20_000,
    }
    at = datetime(2026, 11, 24, 12, tzinfo=timezone(timedelta(hours=2)))
    given = {"event": f"prefect.flow-run.{name}", "occurred": at, "received": at, **fields}
    return ReceivedEvent(resource=Resource(resource), id=UUID(int=7), **given)


def test_a_status_change_is_one_message_with_the_id_of_its_event() -> None:
    event = changed(payload={"initial_state": {"type": "PAUSED"}})

    message = message_of(event)

    assert message is not None
    assert message.id == f"evt_{7:032x}"
    assert json.loads(message.body) == {
        "type": "execution.status",
        "timestamp": "2026-11-24T10:00:00Z",
        "data": {
            "execution_id": execution_id(RUN),
            "status": "running",
            "previous_status": "paused",
            "state_name": "Running",
            "message": "x" * 10_000,
        },
    }
    assert message_of(event) == message


@pytest.mark.parametrize("state", [None, 1, {}, {"type": None}, {"type": "ODD"}])
def test_a_previous_state_that_is_not_known_is_null(state: Any) -> None:
    message = message_of(changed(payload={"initial_state": state}))

    assert message is not None
    assert json.loads(message.body)["data"]["previous_status"] is None


def test_creation_and_other_events_have_no_message() -> None:
    assert message_of(changed(CREATING)) is None
    assert message_of(changed(event="prefect-executions.execution.deleted")) is None
    assert message_of(changed(event="prefect.task-run.Running")) is None


def test_forged_events_do_no_harm(here: WebhookWorld, receiver: Receiver) -> None:
    here.webhook(receiver, events=["status", "checkpoint"])
    here.start()
    run = here.create()
    for name in ("prefect.flow-run.Odd", "prefect-executions.checkpoint.saved"):
        for payload in ({}, {"validated_state": 1, "checkpoint_id": []}):
            for id_ in (f"prefect.flow-run.{run.id}", "prefect.flow-run.odd", "odd"):
                emit_event(name, resource={"prefect.resource.id": id_}, payload=payload)

    here.set(run, Running())

    assert states(receiver.next()) == ["Running"]
