"""Pauses as Prefect keeps them: their key, their deadline, and the form in the UI that ends them.

Prefect's own time-out of a pause fails the run, so the deadline stands in the key of the pause,
where a supervisor finds it:

    execution-{pause|ask}-{32 hex digits}[-{milliseconds since 1970}-{resume|fail|terminate}]

The form is what Prefect calls the input of a flow run: a JSON schema and a description, kept under
keys that the state names; the answer comes to stand beside them.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.input import keyset_from_base_key
from prefect.states import Paused

from prefect_executions.errors import AnswerError, CheckpointNotFound
from prefect_executions.models import OnTimeout
from prefect_executions.prefect.errors import passing, prefect_errors

_KEY = re.compile(r"execution-(pause|ask)-[0-9a-f]{32}(?:-([0-9]{1,15})-(resume|fail|terminate))?")
_MESSAGE = 2_000  # characters of a reason that the state of a run shows


@dataclass(frozen=True)
class Form:
    """What the Resume form in the Prefect UI asks.

    Args:
        schema: Of the answer: a JSON schema.
        description: What stands above it; Markdown.
    """

    schema: dict[str, Any]
    description: str


def question_key() -> str:
    """The key of a new pause in which a person is asked something by the flow."""
    return f"execution-ask-{uuid4().hex}"


def pause_key(until: datetime | None = None, on_timeout: OnTimeout = OnTimeout.RESUME) -> str:
    """The key of another new pause.

    Args:
        until: When it ends by itself.
        on_timeout: What becomes of the run then.
    """
    key = f"execution-pause-{uuid4().hex}"
    if until is None:
        return key
    return f"{key}-{max(int(until.timestamp() * 1000), 0)}-{on_timeout.value}"


def deadline(state: State[Any]) -> tuple[datetime, OnTimeout] | None:
    """When a pause ends by itself, and what becomes of the run then; None if it does not."""
    match = _KEY.fullmatch(state.state_details.pause_key or "")
    if match is None or match[2] is None or not state.is_paused():
        return None
    return datetime.fromtimestamp(int(match[2]) / 1000, UTC), OnTimeout(match[3])


def asks_for_checkpoint(state: State[Any]) -> bool:
    """Whether the form of a pause is the one that says where to continue from."""
    match = _KEY.fullmatch(state.state_details.pause_key or "")
    return match is not None and match[1] == "pause" and bool(state.state_details.run_input_keyset)


def paused(key: str, reason: str | None, *, keeps_process: bool = False) -> State[Any]:
    """The state of a paused run, for which `save_form` saves a form.

    Args:
        key: Of the pause.
        reason: What people read.
        keeps_process: Whether the process waits; it ends otherwise, and a worker starts another.
    """
    name = "Paused" if keeps_process else "Suspended"
    message = reason and reason[:_MESSAGE]
    state: State[Any] = Paused(
        name=name, reschedule=not keeps_process, pause_key=key, message=message
    )
    state.state_details.run_input_keyset = dict(keyset_from_base_key(key).items())
    return state


def save_form(client: SyncPrefectClient, run_id: UUID, state: State[Any], form: Form) -> None:
    """Save what is asked in a pause, once it has begun: its beginning removes what was saved."""
    keys = state.state_details.run_input_keyset or {}
    # The schema last: with it the form is whole. What is there was left by a maker that has died.
    for part, value in (("description", form.description), ("schema", form.schema)):
        if part in keys:
            with prefect_errors(run_id), passing(HTTPStatus.CONFLICT):
                client.create_flow_run_input(run_id, keys[part], json.dumps(value))


def read_form(client: SyncPrefectClient, run_id: UUID, state: State[Any]) -> Form | None:
    """What is asked in a pause; None: nothing."""
    keys = state.state_details.run_input_keyset
    if not state.is_paused() or not keys:
        return None
    schema = _read(client, run_id, keys["schema"])
    # Prefect's own forms may come without a description.
    description = _read(client, run_id, keys["description"]) if "description" in keys else ""
    return None if schema is None else Form(schema, description or "")


def renew_form(client: SyncPrefectClient, run_id: UUID, state: State[Any], form: Form) -> None:
    """Replace what is asked in a pause, if that has changed.

    Who resumes in the Prefect UI at that very moment is refused, and tries again.
    """
    keys = state.state_details.run_input_keyset or {}
    if read_form(client, run_id, state) == form:
        return
    for key in (keys["schema"], keys["description"]):
        with prefect_errors(run_id), passing(HTTPStatus.NOT_FOUND):
            client.delete_flow_run_input(run_id, key)
    save_form(client, run_id, state, form)


def lacks_form(client: SyncPrefectClient, run_id: UUID, state: State[Any]) -> bool:
    """Whether a pause of ours has a form that was never saved: it could not be resumed."""
    keys = state.state_details.run_input_keyset
    if not keys or not _KEY.fullmatch(state.state_details.pause_key or ""):
        return False
    return _read(client, run_id, keys["schema"]) is None


def described(client: SyncPrefectClient, run_id: UUID, state: State[Any]) -> str:
    """What is asked in a pause, for people: the fields of the answer."""
    keys = state.state_details.run_input_keyset or {}
    schema = _read(client, run_id, keys["schema"]) or {}
    required = schema.get("required", [])
    fields = [
        f"{name}{'' if name in required else ' (optional)'}"
        for name in schema.get("properties", {})
    ]
    return f"Asked are: {', '.join(fields)}."


def read_answer(client: SyncPrefectClient, run_id: UUID, key: str) -> Any:
    """What was answered, or None: a form that needs no answer leaves none."""
    return _read(client, run_id, keyset_from_base_key(key)["response"])


def _read(client: SyncPrefectClient, run_id: UUID, key: str) -> Any:
    with prefect_errors(run_id), passing(HTTPStatus.NOT_FOUND):
        return json.loads(client.read_flow_run_input(run_id, key))
    return None


def take_choice(
    client: SyncPrefectClient, run_id: UUID, states: list[State[Any]], act: Callable[[Any], object]
) -> None:
    """If a run was resumed by the form that says where to continue from, act on the answer.

    An answer counts once: for the attempt that comes of it, and not for a later one.

    Args:
        client: Prefect's.
        run_id: The run.
        states: Those that it has had, oldest first.
        act: Does what the answer says; where it raises `AnswerError` or `CheckpointNotFound`, the
            answer is of no use to a later attempt either.
    """
    key = _chosen_in(states)
    answer = None if key is None else read_answer(client, run_id, key)
    if key is None or answer is None:
        return
    try:
        act(answer)
    except (AnswerError, CheckpointNotFound):
        _forget_answer(client, run_id, key)
        raise
    _forget_answer(client, run_id, key)


def forget_choice(client: SyncPrefectClient, run_id: UUID, states: list[State[Any]]) -> None:
    """Let the answer to the form count no more that no attempt has come to act on."""
    if (key := _chosen_in(states)) is not None:
        _forget_answer(client, run_id, key)


def _chosen_in(states: list[State[Any]]) -> str | None:
    """The key of the newest pause, if its form was the one that says where to continue from."""
    at = max((n for n, state in enumerate(states) if state.is_paused()), default=None)
    if at is None or not asks_for_checkpoint(states[at]):
        return None
    after = [state.name for state in states[at + 1 :][:1]]
    return states[at].state_details.pause_key if after == ["Resuming"] else None


def _forget_answer(client: SyncPrefectClient, run_id: UUID, key: str) -> None:
    with prefect_errors(run_id), passing(HTTPStatus.NOT_FOUND):
        client.delete_flow_run_input(run_id, keyset_from_base_key(key)["response"])
