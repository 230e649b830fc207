"""The commands for executions."""

import sys
from itertools import islice
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import ValidationError

from prefect_executions.cli.connection import connected
from prefect_executions.cli.exits import REFUSED, USAGE, end
from prefect_executions.cli.options import (
    ALL,
    NONE,
    UNSET,
    CommonOptions,
    ConfigOptions,
    FilterOptions,
    Id,
    Limit,
    Repeatable,
    State,
    json_of,
)
from prefect_executions.cli.output import confirmed, gathered, summary
from prefect_executions.cli.short_ids import whole
from prefect_executions.config import Effects, ExecutionConfig

SUMMARY = "id name status agent created"  # the columns of a list of executions


def list_(
    *,
    which: FilterOptions = ALL,
    order: Annotated[Literal["asc", "desc"], Parameter(help="Oldest or newest first.")] = "desc",
    limit: Limit = 50,
    common: CommonOptions = NONE,
) -> None:
    """List executions."""
    with connected(common) as (client, output):
        wanted = islice(client.list(order=order, **which.filter), limit or None)
        found = gathered(wanted, "executions")
        output.rows(found, SUMMARY, map(summary, found))


def get(execution_id: Id, *, common: CommonOptions = NONE) -> None:
    """Show an execution."""
    with connected(common) as (client, output):
        output.execution(client.get(whole(client, execution_id), checkpoints=10, states=False))


def create(
    name: str,
    *,
    deployment: Annotated[
        str | None, Parameter(help="What runs it; by default an agent outside Prefect.")
    ] = None,
    parameters: Annotated[State, Parameter(help="Of the flow, as JSON or @FILE.")] = None,
    description: str | None = None,
    agent_id: str | None = None,
    task_type: str | None = None,
    state: State = None,
    from_checkpoint: Annotated[
        str | None, Parameter(help="Take its first state from there: exec_…/ckpt_….")
    ] = None,
    config: ConfigOptions = UNSET,
    idempotency_key: Repeatable = None,
    common: CommonOptions = NONE,
) -> None:
    """Create an execution."""
    new: dict[str, Any] = {
        "deployment": deployment,
        "parameters": None if parameters is None else json_of(parameters, "--parameters"),
        "description": description,
        "agent_id": agent_id,
        "task_type": task_type,
        "config": _settings(config),
    }
    new = {field: value for field, value in new.items() if value is not None}
    if state is not None:  # which may be null
        new["state"] = json_of(state, "--state")
    with connected(common) as (client, output):
        if from_checkpoint is not None:
            of, slash, checkpoint_id = from_checkpoint.partition("/")
            new["from_checkpoint"] = f"{whole(client, of)}{slash}{checkpoint_id}"
        made = client.create(name, idempotency_key=idempotency_key, **new)
        output.execution(made)


def delete(
    execution_id: Id,
    *,
    wait: Annotated[float, Parameter(help="Seconds, for its process to end.")] = 10,
    yes: Annotated[bool, Parameter(negative="", help="Do not ask, at a terminal.")] = False,
    common: CommonOptions = NONE,
) -> None:
    """Delete an execution; one that runs is terminated first. At a terminal it asks before."""
    with connected(common) as (client, output):
        id_ = whole(client, execution_id)
        if not yes and sys.stdin.isatty():
            it = client.get(id_, checkpoints="none", states=False)
            if not confirmed(f"Delete {it.name}, which is {it.status}, and all of its states?"):
                end(REFUSED, "Nothing was deleted.")
        gone = client.delete(id_, wait=wait)
        rest = "is deleted" if gone else "is being deleted: its process needs longer to end"
        output.show({"id": id_, "gone": gone}, f"{id_} {rest}.")


def fork(
    execution_id: Id,
    *,
    checkpoint_id: str | None = None,
    name: str | None = None,
    deployment: Annotated[
        str | None, Parameter(help="Runs it, in place of the deployment of the other one.")
    ] = None,
    state: Annotated[State, Parameter(help="Its first state: JSON or @FILE.")] = None,
    patch: Annotated[
        State, Parameter(help="A JSON Patch to the checkpoint's state: JSON or @FILE.")
    ] = None,
    parameters: Annotated[
        State, Parameter(help="Over those of the other one: JSON or @FILE.")
    ] = None,
    config: ConfigOptions = UNSET,
    effects: Annotated[
        Effects,
        Parameter(help="Which recorded steps answer; `refuse` fails it at any other step."),
    ] = Effects.RECORD,
    count: Annotated[int, Parameter(help="How many.")] = 1,
    idempotency_key: Repeatable = None,
    common: CommonOptions = NONE,
) -> None:
    """Create an execution that continues from a checkpoint of another one, beside it."""
    changes: dict[str, Any] = {
        "checkpoint_id": checkpoint_id,
        "name": name,
        "deployment": deployment,
        "patch": None if patch is None else json_of(patch, "--patch"),
        "parameters": None if parameters is None else json_of(parameters, "--parameters"),
        "config": None if config == UNSET else _settings(config),
        "effects": effects.value,
        "count": count,
    }
    if state is not None:  # which may be null
        changes["state"] = json_of(state, "--state")
    with connected(common) as (client, output):
        id_ = whole(client, execution_id)
        made = client.fork(id_, idempotency_key=idempotency_key, **changes)
        output.execution(made)
        if count > 1:
            output.say("\n".join(made.forks))


def _settings(config: ConfigOptions) -> ExecutionConfig:
    try:
        return ExecutionConfig(**vars(config))
    except ValidationError as error:
        wrong = error.errors()[0]
        end(USAGE, f"--{wrong['loc'][0]}: {wrong['msg']}".replace("_", "-"))


def bulk(
    action: Literal["pause", "resume", "delete"],
    *,
    which: FilterOptions = ALL,
    everything: Annotated[
        bool, Parameter(name="--all", negative="", help="Of all executions, in place of a filter.")
    ] = False,
    reason: Annotated[str | None, Parameter(help="Why they are paused.")] = None,
    yes: Annotated[bool, Parameter(negative="", help="Do it, and do not only list them.")] = False,
    common: CommonOptions = NONE,
) -> None:
    """Pause, resume or delete many executions; only lists them, unless `--yes` is given."""
    filter_ = which.filter
    if everything is bool(filter_):
        end(USAGE, "Give a filter, as in --agent-id agent-7, or --all: one of the two.")
    with connected(common) as (client, output):
        if not yes:
            found = gathered(client.list(**filter_), "executions")
            output.rows(found, SUMMARY, map(summary, found))
            output.say(f"{len(found)} are meant; give --yes to {action} them.")
            return
        done, cursor = [], None
        while True:
            page = client.bulk(action, filter=filter_, cursor=cursor, reason=reason)
            done += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        rows = ((i.id, i.status, i.problem.detail if i.problem else "done") for i in done)
        output.rows(done, "id status what", rows)
    if not all(item.ok for item in done):
        sys.exit(REFUSED)


def cost(execution_id: Id, *, common: CommonOptions = NONE) -> None:
    """Show what an execution has cost in the store."""
    with connected(common) as (client, output):
        it = client.cost(whole(client, execution_id))
        output.show(it, f"{it.puts:,} PUTs; {it.entries:,} objects, {it.bytes_stored:,} bytes.")
