"""The notification that a webhook posts for an event in Prefect."""

import json
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from prefect.client.schemas.objects import StateType
from prefect.events.schemas.events import ReceivedEvent

from prefect_executions.config import Status
from prefect_executions.prefect.changes import CheckpointSaved, StatusChanged, change_of
from prefect_executions.prefect.states import CREATING, status_in

_MESSAGE_LENGTH = 10_000


@dataclass(frozen=True)
class Message:
    """A notification: its JSON, and an id that stays the same when it is posted again."""

    id: str
    body: str


def message_of(event: ReceivedEvent) -> Message | None:
    """The notification of an event, or None when webhooks do not report such events."""
    if (found := change_of(event)) is None:
        return None
    _, change = found
    data = change.data.model_dump(mode="json", exclude={"at"})
    if isinstance(change, CheckpointSaved):
        type_ = "execution.checkpoint"
    elif isinstance(change, StatusChanged):
        type_ = "execution.status"
        data["previous_status"] = _status(event.payload.get("initial_state"))
        data["message"] = (change.data.message or "")[:_MESSAGE_LENGTH] or None
    else:
        return None
    at = event.occurred.astimezone(UTC).isoformat().replace("+00:00", "Z")
    body = {"type": type_, "timestamp": at, "data": data}
    return Message(f"evt_{event.id.hex}", json.dumps(body, separators=(",", ":")))


def _status(state: Any) -> Status | None:
    """The status of a state in an event's payload; None before the execution was created."""
    if not isinstance(state, dict) or state.get("name") == CREATING:
        return None
    type_ = StateType.__members__.get(str(state.get("type")))
    return status_in(type_, state.get("message")) if type_ else None
