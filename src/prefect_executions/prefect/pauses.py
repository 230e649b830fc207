"""Pauses in Prefect: their key, their deadline, and the Resume form in the UI.

Prefect's own time-out of a pause fails the run. The deadline is therefore part of the pause's key,
where a supervisor finds it:

    execution-{pause|ask}-{32 hex digits}[-{milliseconds since 1970}-{resume|fail|terminate}]
    execution-child-{32 hex digits}-{the flow run's id, in hex}

The second is that of a pause which waits for another execution, called in this one.

The form is what Prefect calls the input of a flow run: a JSON schema and a description, stored
under keys that the state names. The answer is stored beside them.
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

from prefect_executions.config import OnTimeout
from prefect_executions.errors import AnswerError, CheckpointNotFound
from prefect_executions.prefect.errors import passing, prefect_errors

_KEY = re.compile(r"execution-(pause|ask)-[0-9a-f]{32}(?:-([0-9]{1,15})-(resume|fail|terminate))?")
_CHILD_KEY = re.compile(r"execution-child-[0-9a-f]{32}-([0-9a-f]{32})")
_RENEWALS = 5  # how often a form is written that others write, too
_MESSAGE = 2_000  # how many characters of a reason become the state's message


@dataclass(frozen=True)
class Form:
    """What the Resume form in the Prefect UI asks.

    Args:
        schema: JSON schema of the answer.
        description: Markdown text above the fields.
    """

    schema: dict[str, Any]
    description: str


def question_key() -> str:
    """A key for a new pause in which the flow asks a question."""
    return f"execution-ask-{uuid4().hex}"


def pause_key(until: datetime | None = None, on_timeout: OnTimeout = OnTimeout.RESUME) -> str:
    """A key for a new pause in which nothing is asked but where to continue from.

    Args:
        until: When the pause ends by itself, or None when it does not.
        on_timeout: What happens to the run then.
    """
    key = f"execution-pause-{uuid4().hex}"
    if until is None:
        return key
    return f"{key}-{max(int(until.timestamp() * 1000), 0)}-{on_timeout.value}"


def child_key(child: UUID) -> str:
    """A key for a new pause that waits for another run, a child of the paused one."""
    return f"execution-child-{uuid4().hex}-{child.hex}"


def awaited_child(state: State[Any]) -> UUID | None:
    """The run that a paused one waits for, a child of it; None when it waits for none."""
    match = _CHILD_KEY.fullmatch(state.state_details.pause_key or "")
    return None if match is None or not state.is_paused() else UUID(match[1])


def deadline(state: State[Any]) -> tuple[datetime, OnTimeout] | None:
    """When a pause ends by itself, and what happens to the run then, or None when it does not."""
    match = _KEY.fullmatch(state.state_details.pause_key or "")
    if match is None or match[2] is None or not state.is_paused():
        return None
    return datetime.fromtimestamp(int(match[2]) / 1000, UTC), OnTimeout(match[3])


def asks_for_checkpoint(state: State[Any]) -> bool:
    """Whether the form of a pause is the one that asks where to continue from."""
    match = _KEY.fullmatch(state.state_details.pause_key or "")
    is_pause = awaited_child(state) is not None or (match is not None and match[1] == "pause")
    return is_pause and bool(state.state_details.run_input_keyset)


def is_question(state: State[Any]) -> bool:
    """Whether a run is paused because its flow asks a person, by `run.ask`."""
    match = _KEY.fullmatch(state.state_details.pause_key or "")
    return state.is_paused() and match is not None and match[1] == "ask"


def paused(key: str, reason: str | None, *, keeps_process: bool = False) -> State[Any]:
    """The state of a paused run, for which `save_form` saves a form.

    Args:
        key: The key of the pause.
        reason: The message of the state.
        keeps_process: Whether the process waits. Otherwise it ends, and a worker starts another.
    """
    name = "Paused" if keeps_process else "Suspended"
    message = reason and reason[:_MESSAGE]
    state: State[Any] = Paused(
        name=name, reschedule=not keeps_process, pause_key=key, message=message
    )
    state.state_details.run_input_keyset = dict(keyset_from_base_key(key).items())
    return state


def save_form(client: SyncPrefectClient, run_id: UUID, state: State[Any], form: Form) -> None:
    """Save the form of a pause that has begun; Prefect deletes a form that was saved earlier."""
    keys = state.state_details.run_input_keyset or {}
    # The schema comes last: it makes the form complete. A process that died may have left a part.
    for part, value in (("description", form.description), ("schema", form.schema)):
        if part in keys:
            with prefect_errors(run_id), passing(HTTPStatus.CONFLICT):
                client.create_flow_run_input(run_id, keys[part], json.dumps(value))


def read_form(client: SyncPrefectClient, run_id: UUID, state: State[Any]) -> Form | None:
    """The form of a pause. Returns None when nothing is asked, or the form is not saved yet."""
    keys = state.state_details.run_input_keyset
    if not state.is_paused() or not keys:
        return None
    schema = _read(client, run_id, keys["schema"])
    # Prefect's own forms may come without a description.
    description = _read(client, run_id, keys["description"]) if "description" in keys else ""
    return None if schema is None else Form(schema, description or "")


def renew_form(
    client: SyncPrefectClient, run_id: UUID, state: State[Any], form: Callable[[], Form]
) -> None:
    """Replace the form of a pause, until it is what `form` makes of the log at that time.

    The process that leaves and a supervisor may both write it, one of them with what it has read
    before the last checkpoint. So it is read again after it was written. A Resume in the Prefect
    UI at that very moment is refused, and can be repeated.
    """
    keys = state.state_details.run_input_keyset or {}
    for _ in range(_RENEWALS):
        wanted = form()
        if read_form(client, run_id, state) == wanted:
            return
        for key in (keys["schema"], keys["description"]):
            with prefect_errors(run_id), passing(HTTPStatus.NOT_FOUND):
                client.delete_flow_run_input(run_id, key)
        save_form(client, run_id, state, wanted)


def lacks_form(client: SyncPrefectClient, run_id: UUID, state: State[Any]) -> bool:
    """Whether a pause with a key of ours lacks its form: it can't be resumed."""
    keys = state.state_details.run_input_keyset
    key = state.state_details.pause_key or ""
    if not keys or not (_KEY.fullmatch(key) or _CHILD_KEY.fullmatch(key)):
        return False
    return _read(client, run_id, keys["schema"]) is None


def describe_form(client: SyncPrefectClient, run_id: UUID, state: State[Any]) -> str:
    """The fields of a pause's form, as a sentence."""
    keys = state.state_details.run_input_keyset or {}
    schema = _read(client, run_id, keys["schema"]) or {}
    required = schema.get("required", [])
    fields = [
        f"{name}{'' if name in required else ' (optional)'}"
        for name in schema.get("properties", {})
    ]
    return f"Asked are: {', '.join(fields)}."


def read_answer(client: SyncPrefectClient, run_id: UUID, key: str) -> Any:
    """The answer to the form of a pause. Returns None when there is none."""
    return _read(client, run_id, keyset_from_base_key(key)["response"])


def name_answerer(client: SyncPrefectClient, run_id: UUID, key: str, by: str | None) -> None:
    """Keep who answers the form of a pause, in place of whom was kept before; None for nobody."""
    with prefect_errors(run_id), passing(HTTPStatus.NOT_FOUND):
        client.delete_flow_run_input(run_id, _answerer_key(key))
    if by is not None:
        with prefect_errors(run_id), passing(HTTPStatus.CONFLICT):  # another answer came just now
            client.create_flow_run_input(run_id, _answerer_key(key), json.dumps(by))


def answerer(client: SyncPrefectClient, run_id: UUID, key: str) -> str | None:
    """The name of who answered the form of a pause. Returns None when it is not known."""
    found: str | None = _read(client, run_id, _answerer_key(key))
    return found


def _answerer_key(key: str) -> str:
    return f"{key}-by"


def _read(client: SyncPrefectClient, run_id: UUID, key: str) -> Any:
    with prefect_errors(run_id), passing(HTTPStatus.NOT_FOUND):
        return json.loads(client.read_flow_run_input(run_id, key))
    return None


def take_choice(
    client: SyncPrefectClient, run_id: UUID, states: list[State[Any]], act: Callable[[Any], object]
) -> None:
    """Act on the answer to the form that asks where to continue from, if the run was resumed by it.

    An answer counts once, for the attempt that it starts; then it is deleted.

    Args:
        client: Prefect's client.
        run_id: The run.
        states: The states that the run has had, oldest first.
        act: Does what the answer says. An answer for which it raises `AnswerError` or
            `CheckpointNotFound` is deleted, too.
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
    """Delete the answer to the form that asks where to continue from, if there is one."""
    if (key := _chosen_in(states)) is not None:
        _forget_answer(client, run_id, key)


def _chosen_in(states: list[State[Any]]) -> str | None:
    """The key of the newest pause, if it was resumed by the form that `take_choice` reads."""
    at = max((n for n, state in enumerate(states) if state.is_paused()), default=None)
    if at is None or not asks_for_checkpoint(states[at]):
        return None
    after = [state.name for state in states[at + 1 :][:1]]
    return states[at].state_details.pause_key if after == ["Resuming"] else None


def _forget_answer(client: SyncPrefectClient, run_id: UUID, key: str) -> None:
    with prefect_errors(run_id), passing(HTTPStatus.NOT_FOUND):
        client.delete_flow_run_input(run_id, keyset_from_base_key(key)["response"])
