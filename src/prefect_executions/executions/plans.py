"""Executions that are to be created: of a request, or of a checkpoint of another one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jsonpatch
import jsonpointer
import orjson

from prefect_executions import serialization
from prefect_executions.config import NAME_LENGTH, Effects, ExecutionConfig
from prefect_executions.errors import StateError
from prefect_executions.ids import checkpoint_id
from prefect_executions.log.branches import all_records
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.prefect.tags import RETENTION, agent_tag, fork_tag, task_type_tag

EMPTY: Any = object()  # no state was given, so it is `{}`; None is a state
_FORK = " (fork)"
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # as JSON has it; not after a backslash


@dataclass(frozen=True)
class Plan:
    """An execution to be created.

    Args:
        meta: What the log keeps about it.
        state: The first state.
        deployment: The deployment that runs it; None for an external agent.
        parameters: The parameters of the deployment's flow.
        request: A digest that equal requests share.
        records: What the steps of the execution that it is forked from have recorded.
    """

    meta: dict[str, Any]
    state: bytes
    deployment: str | None
    parameters: dict[str, Any]
    request: str
    records: Sequence[Record] = ()

    @property
    def tags(self) -> list[str]:
        """The tags of its run."""
        agent_id, task_type = self.meta["agent_id"], self.meta["task_type"]
        tags = [agent_tag(agent_id)] if agent_id else []
        tags += [task_type_tag(task_type)] if task_type else []
        tags += [RETENTION] if ExecutionConfig(**self.meta["config"]).removes else []
        return tags + ([fork_tag(self.meta["fork"]["execution_id"])] if "fork" in self.meta else [])


@dataclass(frozen=True)
class Changes:
    """In what a fork differs from the execution that it is made of.

    Args:
        checkpoint_id: The checkpoint that it starts from; None for the newest state.
        name: Its name; None for that of the other one, with "(fork)".
        deployment: What runs it; None for the deployment of the other one.
        state: Its first state, in place of the checkpoint's.
        patch: A JSON Patch to the checkpoint's state, in place of another state.
        parameters: Parameters of the flow, over those of the other one.
        config: Settings, over those of the other one.
        effects: What answers for its steps.
    """

    checkpoint_id: str | None = None
    name: str | None = None
    deployment: str | None = None
    state: Any = EMPTY
    patch: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] | None = None
    config: ExecutionConfig | None = None
    effects: Effects | str = Effects.RECORD

    def require_possible(self) -> None:
        """Check what can be checked without the other execution.

        Raises:
            StateError: the state, the patch or a parameter is not JSON, or there are two states.
        """
        if self.state is not EMPTY and self.patch is not None:
            raise StateError("patch", "is given, and a state, too; leave out one of the two.")
        if self.state is not EMPTY:
            serialization.dump(self.state)
        serialization.dump(self.patch, at="patch")
        require_kept(self.parameters or {})

    def digest(self, execution_id: str) -> str:
        """What equal requests share."""
        of = ["fork", execution_id, self.checkpoint_id, self.name, self.deployment]
        more = {
            "state": None if self.state is EMPTY else [self.state],
            "patch": self.patch,
            "parameters": self.parameters,
            "config": self.config and self.config.model_dump(mode="json"),
            "effects": None if self.effects == Effects.RECORD else self.effects,
        }
        more = {name: value for name, value in more.items() if value is not None}
        return digest(*of, *([more] if more else []))

    def state_of(self, head: Head) -> bytes:
        """The first state of the fork.

        Raises:
            StateError: the patch does not fit the checkpoint's state.
        """
        if self.state is not EMPTY:
            return serialization.dump(self.state)
        if self.patch is None:
            return head.state
        try:
            state = jsonpatch.apply_patch(serialization.load(head.state), self.patch)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
            what = f"does not fit the state of {checkpoint_of(head)}: {error}"
            raise StateError("patch", what) from error
        except (TypeError, AttributeError, KeyError, ValueError) as error:
            raise StateError("patch", f"is no JSON Patch (RFC 6902): {error!r}") from error
        return serialization.dump(state)

    def meta_of(self, execution_id: str, head: Head, place: str) -> dict[str, Any]:
        """What the log of the fork keeps about it.

        Args:
            execution_id: The other execution.
            head: Its log, as it was at the checkpoint.
            place: Added to the name, where there are several forks.
        """
        created = dict(head.created.meta or {})
        kept = {key: created[key] for key in ("description", "agent_id", "task_type", "config")}
        if self.config is not None:
            config = self.config.over(ExecutionConfig(**kept["config"]))
            kept["config"] = config.model_dump(mode="json")
        fork = {"execution_id": execution_id, "checkpoint_id": checkpoint_of(head)}
        if self.effects != Effects.RECORD:
            fork["effects"] = Effects(self.effects).value
        name = f"{self.name or created['name']}"
        more = f"{'' if self.name else _FORK}{place}"
        return {"name": name[: NAME_LENGTH - len(more)] + more, **kept, "fork": fork}

    def records_of(self, log: ExecutionLog, head: Head, newest: Head) -> list[Record]:
        """What answers for the steps of the fork, as its log can keep it.

        Steps that a roll-back has left to be undone are undone by the original execution.
        Executions that it has begun, and that have not returned, go on with it; the fork begins
        others.

        Args:
            log: The log of the other execution.
            head: It, as it was at the checkpoint.
            newest: Its head.
        """
        known = (
            head.records().values()
            if self.effects == Effects.RECORD
            else all_records(log, head, newest)
        )
        return [
            log.with_result(record)
            for record in known
            if record.outcome not in (Outcome.UNDO, Outcome.UNDONE)
            and not (record.outcome is Outcome.WAITING and record.child is not None)
        ]


def require_kept(parameters: dict[str, Any]) -> None:
    """Check that Prefect can keep parameters, whatever its database is.

    Raises:
        StateError: They are not JSON, or a text has a NUL, which PostgreSQL can't store.
    """
    if _NUL.search(serialization.dump(parameters, at="parameters")):
        problem = (
            "have a NUL (\\u0000) in a text. Prefect can't store it in PostgreSQL; leave it out."
        )
        raise StateError("parameters", problem)


def checkpoint_of(head: Head) -> str:
    """The checkpoint that an execution would continue from."""
    return checkpoint_id(head.entry.continues_from)


def digest(*parts: Any) -> str:
    """A digest that equal JSON shares, however it was written."""
    return serialization.digest(
        *(orjson.dumps(part, option=orjson.OPT_SORT_KEYS) for part in parts)
    )
