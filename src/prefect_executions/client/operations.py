"""The operations of the REST API as data: the request, the model of the answer, and more.

A request is sent again when it can't have reached the service, and on 429. After a lost answer it
is sent again only if a second time does no harm: `repeatable`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel

from prefect_executions import serialization
from prefect_executions.config import Effects, ExecutionConfig, OnTimeout, Status
from prefect_executions.models import (
    Begun,
    BulkResult,
    Checkpoint,
    CheckpointPage,
    Comparison,
    Cost,
    Diff,
    Execution,
    Forked,
    Order,
    Page,
    Question,
    Resumed,
    Saved,
    Standing,
)

T = TypeVar("T", bound=BaseModel | bool)

PATH = "/v1/execution"


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One request to the service, and how to read its answer.

    Args:
        method: The HTTP method.
        path: Below the service's URL.
        answer: The model of the answer; bool for whether it is finished (not 202).
        repeatable: Whether a second time does no harm.
        body: The fields of the body, or None when there is none.
        params: The query.
        headers: Further headers.
    """

    method: str
    path: str
    answer: type[T]
    repeatable: bool
    body: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes | None:
        """The body as JSON.

        Raises:
            StateError: a value would change on its way through JSON; the error has its path.
        """
        if self.body is None:
            return None
        fields = (
            serialization.dump(name) + b":" + serialization.dump(value, at=name)
            for name, value in self.body.items()
        )
        return b"{" + b",".join(fields) + b"}"


class CreateOptions(TypedDict, total=False):
    """The optional fields of a new execution; see the HTTP API."""

    deployment: str
    """`flow-name/deployment-name`, or a deployment's id: what runs it."""
    parameters: dict[str, Any]
    """The parameters of the deployment's flow."""
    description: str
    """What it is for."""
    agent_id: str
    """The agent that it belongs to."""
    task_type: str
    """The kind of task."""
    state: Any
    """The first state, as JSON or a pydantic model."""
    from_checkpoint: str
    """Take the first state from this checkpoint: `exec_…/ckpt_…`."""
    config: ExecutionConfig | dict[str, Any]
    """How it is run."""


class ForkOptions(TypedDict, total=False):
    """In what a fork differs from the execution that it is made of; see the HTTP API."""

    checkpoint_id: str | None
    """The checkpoint that it starts from; by default the newest state."""
    name: str | None
    """Its name; by default that of the other one, with "(fork)"."""
    deployment: str | None
    """The deployment that runs it; by default that of the other one."""
    state: Any
    """Its first state, as JSON or a pydantic model, in place of the checkpoint's."""
    patch: list[dict[str, Any]] | None
    """A JSON Patch to the checkpoint's state, in place of another state."""
    parameters: dict[str, Any] | None
    """Parameters of the flow, over those of the other one."""
    config: ExecutionConfig | dict[str, Any] | None
    """How it is run, over the config of the other one."""
    effects: Effects | str
    """What answers for its steps: `record`, `replay` or `refuse`."""
    count: int
    """How many forks."""


class LastState(TypedDict, total=False):
    """The last state, if one is given; it may be null."""

    state: Any
    """The last state, as JSON or a pydantic model; null is a state, too."""


class Filter(TypedDict, total=False):
    """Selects executions; see the HTTP API."""

    status: Status | str | Sequence[Status | str]
    """One status, or several of which one fits."""
    agent_id: str
    """The agent that it belongs to."""
    task_type: str
    """The kind of task."""
    name: str
    """A part of its name, in any case of letters."""
    forked_from: str
    """The execution that it was forked from."""
    created_after: datetime
    """Created at this time or later; a time has a zone."""
    created_before: datetime
    """Created at this time or before."""
    updated_after: datetime
    """Its last change of status was at this time or later."""
    updated_before: datetime
    """Its last change of status was at this time or before."""


def create(name: str, key: str | None, new: CreateOptions) -> Operation[Execution]:
    """Create an execution, with an idempotency key so that it may be repeated."""
    headers = {"Idempotency-Key": key or uuid4().hex}
    body = {"name": name, **_plain(new)}
    return Operation("POST", PATH, Execution, True, body, headers=headers)


def page(cursor: str | None, limit: int, order: Order | str, filter_: Filter) -> Operation[Page]:
    """A page of executions."""
    query = {**_plain(filter_), "limit": limit, "order": f"{order}", "cursor": cursor}
    return Operation("GET", PATH, Page, True, params=_given(query))


def get(id_: str, checkpoints: int | str, states: bool, state: bool = True) -> Operation[Execution]:
    """Read an execution."""
    query = {"checkpoints": checkpoints, "states": states, **({} if state else {"state": False})}
    return Operation("GET", _path(id_), Execution, True, params=query)


def checkpoints(
    id_: str, cursor: str | None, limit: int, states: bool, until: str | None = None
) -> Operation[CheckpointPage]:
    """A page of checkpoints."""
    query = _given({"limit": limit, "states": states, "cursor": cursor, "until": until})
    return Operation("GET", _path(id_, "checkpoints"), CheckpointPage, True, params=query)


def get_checkpoint(id_: str, checkpoint_id: str) -> Operation[Checkpoint]:
    """Read one checkpoint."""
    return Operation("GET", _path(id_, "checkpoints", checkpoint_id), Checkpoint, True)


def diff(id_: str, checkpoint_id: str, other_id: str) -> Operation[Diff]:
    """What changed between two checkpoints."""
    return Operation("GET", _path(id_, "checkpoints", checkpoint_id, "diff", other_id), Diff, True)


def cost(id_: str) -> Operation[Cost]:
    """What an execution cost in the store."""
    return Operation("GET", _path(id_, "cost"), Cost, True)


def checkpoint(
    id_: str,
    state: Any,
    label: str | None,
    attempt: int | None,
    reason: str | None,
    after: str | None = None,
) -> Operation[Saved]:
    """Save a checkpoint.

    With an attempt it is repeatable: no other process may save, and the same state twice is one
    checkpoint. Without, a flow may have saved in between, and its newer state would be superseded.
    """
    given = _given({"label": label, "attempt": attempt, "reason": reason, "after": after})
    body = {"state": state, **given}
    return Operation("PUT", _path(id_, "checkpoint"), Saved, attempt is not None, body)


def pause(
    id_: str, reason: str | None, until: datetime | None, on_timeout: OnTimeout | str, wait: float
) -> Operation[Execution]:
    """Pause an execution; repeatable, since the second time it is paused."""
    ends = until.isoformat() if until else None
    body = _given({"reason": reason, "until": ends, "on_timeout": f"{on_timeout}"})
    return Operation("POST", _path(id_, "pause"), Execution, True, body, headers=_prefer(wait))


def cancel(id_: str, wait: float) -> Operation[Execution]:
    """Terminate an execution and keep it; repeatable, since the second time it is terminated."""
    return Operation("POST", _path(id_, "cancel"), Execution, True, headers=_prefer(wait))


def resume(
    id_: str,
    checkpoint_id: str | None,
    input_: dict[str, Any] | None,
    force: bool,
    reason: str | None,
    wait: float,
) -> Operation[Resumed]:
    """Resume an execution; not repeatable, since the second time it runs."""
    given = {"checkpoint_id": checkpoint_id, "input": input_, "reason": reason}
    body = _given({**given, "force": force or None})
    return Operation("POST", _path(id_, "resume"), Resumed, False, body, headers=_prefer(wait))


def question(id_: str) -> Operation[Question]:
    """Read what an execution asks."""
    return Operation("GET", _path(id_, "question"), Question, True)


def delete(id_: str, wait: float) -> Operation[bool]:
    """Delete an execution; the second time deletes the rest, or finds it gone."""
    # Also when 0: without the header the service waits some seconds.
    return Operation("DELETE", _path(id_), bool, True, headers={"Prefer": f"wait={ceil(wait)}"})


def fork(id_: str, key: str | None, changes: ForkOptions) -> Operation[Forked]:
    """Fork an execution, with an idempotency key so that it may be repeated."""
    headers = {"Idempotency-Key": key or uuid4().hex}
    state = {"state": changes["state"]} if "state" in changes else {}  # which may be null
    body = {**_given(_plain(changes)), **state}
    return Operation("POST", _path(id_, "fork"), Forked, True, body, headers=headers)


def compare(ids: Sequence[str]) -> Operation[Comparison]:
    """Compare executions."""
    return Operation("GET", f"{PATH}/compare", Comparison, True, params={"ids": list(ids)})


def begin_attempt(id_: str) -> Operation[Begun]:
    """Begin an attempt; the second time begins another, and the first is never used."""
    return Operation("POST", _path(id_, "attempt"), Begun, True)


def heartbeat(id_: str, attempt: int) -> Operation[Standing]:
    """Report that an attempt is alive."""
    return Operation("POST", _path(id_, "heartbeat"), Standing, True, {"attempt": attempt})


def complete(id_: str, result: Any, attempt: int | None, last: LastState) -> Operation[Execution]:
    """Complete an execution; repeatable, since the second time it is completed."""
    body = {"result": result, **_given({"attempt": attempt}), **_only(last)}
    return Operation("POST", _path(id_, "complete"), Execution, True, body)


def fail(id_: str, error: str, attempt: int | None, last: LastState) -> Operation[Execution]:
    """Fail an attempt; not repeatable, since the second time it has ended."""
    body = {"error": error, **_given({"attempt": attempt}), **_only(last)}
    return Operation("POST", _path(id_, "fail"), Execution, False, body)


def bulk(
    action: str,
    ids: Sequence[str] | None,
    filter_: Filter | None,
    cursor: str | None,
    limit: int,
    reason: str | None,
) -> Operation[BulkResult]:
    """Act on many executions.

    Pausing is repeatable, and so is deleting by a filter, which no longer selects what is gone.
    Deleting by ids is not: the second time would report that they are not found.
    """
    repeatable = action == "pause" or (action == "delete" and ids is None)
    selected = None if filter_ is None else _plain(filter_)
    many = {"ids": ids and list(ids), "filter": selected, "cursor": cursor, "reason": reason}
    body = {"action": action, "limit": limit, **_given(many)}
    return Operation("POST", f"{PATH}/bulk", BulkResult, repeatable, body)


def events(id_: str) -> str:
    """The path of the stream of events."""
    return _path(id_, "events")


def _path(*parts: str) -> str:
    """A path below all executions; each part is quoted, so that it stays one part."""
    return "/".join([PATH, *(quote(part, safe="") for part in parts)])


def _prefer(wait: float) -> dict[str, str]:
    return {"Prefer": f"wait={ceil(wait)}"} if wait else {}


def _only(last: LastState) -> LastState:
    if unknown := last.keys() - {"state"}:
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    return last


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, BaseModel):
            plain[name] = value.model_dump(mode="json")
        elif isinstance(value, datetime):
            plain[name] = value.isoformat()
        elif name == "status":
            plain[name] = [f"{each}" for each in ([value] if isinstance(value, str) else value)]
        else:
            plain[name] = value
    return plain
