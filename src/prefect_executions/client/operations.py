"""The calls of the REST service as data: what is sent, what it is read as, what may be repeated.

A request is repeated when it can't have reached the service, and on 429. One that may have been
carried out without our hearing of it is repeated only where a second time does no harm.
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
from prefect_executions.models import (
    Begun,
    BulkResult,
    Checkpoint,
    CheckpointPage,
    Cost,
    Diff,
    Execution,
    ExecutionConfig,
    OnTimeout,
    Order,
    Page,
    Resumed,
    Saved,
    Standing,
    Status,
)

T = TypeVar("T", bound=BaseModel | bool)

PATH = "/v1/execution"


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call.

    Args:
        method: The HTTP method.
        path: Below the service's URL.
        answer: What the answer is read as; bool: whether all of it has happened (204, not 202).
        repeatable: Whether a second time does no harm.
        body: The fields of the body; None: there is none.
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
        """The body as JSON: what the service would get as something else is refused here.

        Raises:
            StateError: with the path of what JSON can't keep.
        """
        if self.body is None:
            return None
        fields = (
            serialization.dump(name) + b":" + serialization.dump(value, at=name)
            for name, value in self.body.items()
        )
        return b"{" + b",".join(fields) + b"}"


class New(TypedDict, total=False):
    """What a new execution may have beside its name; see the HTTP API."""

    deployment: str
    parameters: dict[str, Any]
    description: str
    agent_id: str
    task_type: str
    state: Any
    from_checkpoint: str
    config: ExecutionConfig | dict[str, Any]


class Last(TypedDict, total=False):
    """The last state, if one is given: null is one, too."""

    state: Any


class Filter(TypedDict, total=False):
    """Which executions are meant; see the HTTP API."""

    status: Status | str | Sequence[Status | str]
    agent_id: str
    task_type: str
    name: str
    created_after: datetime
    created_before: datetime
    updated_after: datetime
    updated_before: datetime


def create(name: str, key: str | None, new: New) -> Call[Execution]:
    """Create an execution; with a key of its own, so that it may be repeated."""
    headers = {"Idempotency-Key": key or uuid4().hex}
    body = {"name": name, **_plain(new)}
    return Call("POST", PATH, Execution, True, body, headers=headers)


def page(cursor: str | None, limit: int, order: Order | str, filter_: Filter) -> Call[Page]:
    """A page of executions."""
    query = {**_plain(filter_), "limit": limit, "order": f"{order}", "cursor": cursor}
    return Call("GET", PATH, Page, True, params=_given(query))


def get(id_: str, checkpoints: int | str, states: bool) -> Call[Execution]:
    """Read an execution."""
    query = {"checkpoints": checkpoints, "states": states}
    return Call("GET", _path(id_), Execution, True, params=query)


def checkpoints(id_: str, cursor: str | None, limit: int, states: bool) -> Call[CheckpointPage]:
    """A page of checkpoints."""
    query = _given({"limit": limit, "states": states, "cursor": cursor})
    return Call("GET", _path(id_, "checkpoints"), CheckpointPage, True, params=query)


def get_checkpoint(id_: str, checkpoint_id: str) -> Call[Checkpoint]:
    """Read one checkpoint."""
    return Call("GET", _path(id_, "checkpoints", checkpoint_id), Checkpoint, True)


def diff(id_: str, checkpoint_id: str, other_id: str) -> Call[Diff]:
    """What has changed between two checkpoints."""
    return Call("GET", _path(id_, "checkpoints", checkpoint_id, "diff", other_id), Diff, True)


def cost(id_: str) -> Call[Cost]:
    """What an execution has cost in the store."""
    return Call("GET", _path(id_, "cost"), Cost, True)


def checkpoint(id_: str, state: Any, label: str | None, attempt: int | None) -> Call[Saved]:
    """Save a checkpoint.

    By hand it is not repeated: what a flow has saved in between would come to lie behind it. Of an
    attempt it is: nobody else may have saved, and the same state twice is one state.
    """
    body = {"state": state, **_given({"label": label, "attempt": attempt})}
    return Call("PUT", _path(id_, "checkpoint"), Saved, attempt is not None, body)


def pause(
    id_: str, reason: str | None, until: datetime | None, on_timeout: OnTimeout | str, wait: float
) -> Call[Execution]:
    """Pause an execution; a second time finds it paused."""
    ends = until.isoformat() if until else None
    body = _given({"reason": reason, "until": ends, "on_timeout": f"{on_timeout}"})
    return Call("POST", _path(id_, "pause"), Execution, True, body, headers=_prefer(wait))


def resume(
    id_: str, checkpoint_id: str | None, input_: dict[str, Any] | None, wait: float
) -> Call[Resumed]:
    """Resume an execution; not repeated, since the second time it runs."""
    body = _given({"checkpoint_id": checkpoint_id, "input": input_})
    return Call("POST", _path(id_, "resume"), Resumed, False, body, headers=_prefer(wait))


def delete(id_: str, wait: float) -> Call[bool]:
    """Delete an execution; a second time continues what was left, or finds it gone."""
    # Also for 0: the service would wait for some seconds otherwise.
    return Call("DELETE", _path(id_), bool, True, headers={"Prefer": f"wait={ceil(wait)}"})


def fork(id_: str, checkpoint_id: str | None, name: str | None, key: str | None) -> Call[Execution]:
    """Fork an execution; with a key of its own, so that it may be repeated."""
    headers = {"Idempotency-Key": key or uuid4().hex}
    body = _given({"checkpoint_id": checkpoint_id, "name": name})
    return Call("POST", _path(id_, "fork"), Execution, True, body, headers=headers)


def begin_attempt(id_: str) -> Call[Begun]:
    """Begin an attempt; a second time begins another one, and the first is nobody's."""
    return Call("POST", _path(id_, "attempt"), Begun, True)


def heartbeat(id_: str, attempt: int) -> Call[Standing]:
    """Say that an attempt is alive."""
    return Call("POST", _path(id_, "heartbeat"), Standing, True, {"attempt": attempt})


def complete(id_: str, result: Any, attempt: int | None, last: Last) -> Call[Execution]:
    """Say that an execution is done; a second time finds it completed."""
    body = {"result": result, **_given({"attempt": attempt}), **_only(last)}
    return Call("POST", _path(id_, "complete"), Execution, True, body)


def fail(id_: str, error: str, attempt: int | None, last: Last) -> Call[Execution]:
    """Say that an attempt has failed; not repeated, since the second time it has ended."""
    body = {"error": error, **_given({"attempt": attempt}), **_only(last)}
    return Call("POST", _path(id_, "fail"), Execution, False, body)


def bulk(
    action: str,
    ids: Sequence[str] | None,
    filter_: Filter | None,
    cursor: str | None,
    limit: int,
    reason: str | None,
) -> Call[BulkResult]:
    """Act on many.

    Pausing may be repeated, and deleting by a filter: what is gone is not meant any more. Of ids
    that are gone a second time would say that they are not there.
    """
    repeatable = action == "pause" or (action == "delete" and ids is None)
    meant = None if filter_ is None else _plain(filter_)
    many = {"ids": ids and list(ids), "filter": meant, "cursor": cursor, "reason": reason}
    body = {"action": action, "limit": limit, **_given(many)}
    return Call("POST", f"{PATH}/bulk", BulkResult, repeatable, body)


def events(id_: str) -> str:
    """The path of the stream of events."""
    return _path(id_, "events")


def _path(*parts: str) -> str:
    """A path below all executions: what is no id stays one part of it."""
    return "/".join([PATH, *(quote(part, safe="") for part in parts)])


def _prefer(wait: float) -> dict[str, str]:
    return {"Prefer": f"wait={ceil(wait)}"} if wait else {}


def _only(last: Last) -> Last:
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
