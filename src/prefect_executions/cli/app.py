"""The commands of the client; the others are in modules of their own."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from cyclopts import App, Group, Parameter
from pydantic import ValidationError
from rich.text import Text

from prefect_executions import __version__
from prefect_executions.cli import automations as automations_commands
from prefect_executions.cli import keys as keys_commands
from prefect_executions.cli import webhooks as webhooks_commands
from prefect_executions.cli.exits import REFUSED, USAGE, code_of, end
from prefect_executions.cli.output import Output, harmless, status, summary
from prefect_executions.cli.service import demo, deploy, gc, serve
from prefect_executions.client import Client
from prefect_executions.client.operations import Filter
from prefect_executions.errors import ExecutionError
from prefect_executions.models import ExecutionConfig, OnTimeout, Status

PATIENCE = 10.0  # seconds: longer than the service's `Retry-After`
WATCHING = 300.0  # seconds that the service may be away while a command watches
SUMMARY = "id name status agent created"  # the columns of a list of executions

app = App(
    name="prefect-executions",
    help="Durable executions on Prefect. Exit codes: 0 done, 1 refused, 2 wrong usage, 3 not "
    "there, 4 no permission, 5 not to be reached.",
    version=__version__,
)
app.command(keys_commands.app)
app.command(automations_commands.app)
app.command(webhooks_commands.app)
app.register_install_completion_command()
_SERVICE = Group("Service", sort_key=9)
for command in (serve, deploy, gc, demo):
    app.command(command, group=_SERVICE)


@Parameter(name="*")
@dataclass(frozen=True)
class CommonOptions:
    """The options of every command of the client."""

    url: Annotated[
        str | None,
        Parameter(help="Of the service; by default $PREFECT_EXECUTIONS_URL, or a profile's."),
    ] = None
    profile: Annotated[
        str | None, Parameter(help="Of ~/.config/prefect-executions/config.toml.")
    ] = None
    json: Annotated[bool, Parameter(negative="", help="Print JSON, for programs.")] = False


NONE = CommonOptions()


def _help(field: str) -> Parameter:
    return Parameter(help=ExecutionConfig.model_fields[field].description)


@Parameter(name="*")
@dataclass(frozen=True)
class ConfigOptions:
    """The fields of `ExecutionConfig`, as options."""

    max_duration_seconds: Annotated[float | None, _help("max_duration_seconds")] = None
    checkpoint_interval_seconds: Annotated[float | None, _help("checkpoint_interval_seconds")] = (
        None
    )
    max_retries: Annotated[int | None, _help("max_retries")] = None
    retry_delay_seconds: Annotated[float | None, _help("retry_delay_seconds")] = None
    keep_checkpoints: Annotated[int | None, _help("keep_checkpoints")] = None
    keep_labelled: Annotated[bool | None, _help("keep_labelled")] = None
    delete_after_seconds: Annotated[float | None, _help("delete_after_seconds")] = None


UNSET = ConfigOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class FilterOptions:
    """The fields of `ExecutionFilter`, as options."""

    status: Annotated[list[Status] | None, Parameter(negative="", help="One of these.")] = None
    agent_id: str | None = None
    task_type: str | None = None
    name: Annotated[str | None, Parameter(help="A part of it.")] = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None

    @property
    def filter(self) -> Filter:
        """The filter of the options that are given; a time without a zone is local."""
        given: Any = {name: value for name, value in vars(self).items() if value}
        times = {name: at.astimezone() for name, at in given.items() if isinstance(at, datetime)}
        filter_: Filter = given | times
        return filter_


ALL = FilterOptions()

Limit = Annotated[int, Parameter(help="How many at most; 0: all.")]
Repeatable = Annotated[
    str | None, Parameter(help="The same for a repetition of the command, which creates nothing.")
]
Id = Annotated[str, Parameter(help="The execution.")]
State = Annotated[
    str | None,
    Parameter(help="JSON; or @FILE; or - for standard input.", allow_leading_hyphen=True),
]


@contextmanager
def _service(common: CommonOptions, patience: float = PATIENCE) -> Iterator[tuple[Client, Output]]:
    try:
        client = Client(common.url, profile=common.profile, patience=patience)
    except ValueError as error:
        end(USAGE, f"{error}")
    with client:
        yield client, Output(as_json=common.json)


@app.command(name="list")
def list_(
    *,
    which: FilterOptions = ALL,
    order: Annotated[Literal["asc", "desc"], Parameter(help="Oldest or newest first.")] = "desc",
    limit: Limit = 50,
    common: CommonOptions = NONE,
) -> None:
    """List executions."""
    with _service(common) as (client, output):
        found = list(islice(client.list(order=order, **which.filter), limit or None))
        output.rows(found, SUMMARY, map(summary, found))


@app.command
def get(execution_id: Id, *, common: CommonOptions = NONE) -> None:
    """Show an execution."""
    with _service(common) as (client, output):
        output.execution(client.get(execution_id, checkpoints=10, states=False))


@app.command
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
    from_checkpoint: str | None = None,
    config: ConfigOptions = UNSET,
    idempotency_key: Repeatable = None,
    common: CommonOptions = NONE,
) -> None:
    """Create an execution."""
    try:
        settings = ExecutionConfig(**vars(config))
    except ValidationError as error:
        wrong = error.errors()[0]
        end(USAGE, f"--{wrong['loc'][0]}: {wrong['msg']}".replace("_", "-"))
    new: dict[str, Any] = {
        "deployment": deployment,
        "parameters": None if parameters is None else _json_of(parameters, "--parameters"),
        "description": description,
        "agent_id": agent_id,
        "task_type": task_type,
        "from_checkpoint": from_checkpoint,
        "config": settings,
    }
    new = {field: value for field, value in new.items() if value is not None}
    with _service(common) as (client, output):
        made = client.create(name, idempotency_key=idempotency_key, **new, **_state(state))
        output.execution(made)


@app.command
def checkpoint(
    execution_id: Id,
    state: State,
    *,
    label: str | None = None,
    attempt: int | None = None,
    common: CommonOptions = NONE,
) -> None:
    """Save a checkpoint by hand."""
    with _service(common) as (client, output):
        value = _json_of(state or "", "STATE")
        saved = client.checkpoint(execution_id, value, label=label, attempt=attempt)
        output.show(saved, f"{saved.checkpoint.id}: saved; the execution is {saved.status}.")


@app.command
def checkpoints(execution_id: Id, *, limit: Limit = 50, common: CommonOptions = NONE) -> None:
    """List the checkpoints of an execution, newest first."""
    with _service(common) as (client, output):
        found = list(islice(client.checkpoints(execution_id), limit or None))
        rows = (
            (
                *(c.id, c.label, c.timestamp),
                f"{c.attempt}, by {c.saved_by}" if c.saved_by else c.attempt,
                f"{c.size:,} B",
            )
            for c in found
        )
        output.rows(found, "id label saved attempt size", rows)


@app.command
def state(
    execution_id: Id, checkpoint_id: str | None = None, *, common: CommonOptions = NONE
) -> None:
    """Print the state of an execution, or of one checkpoint, as JSON."""
    with _service(common) as (client, output):
        if checkpoint_id is None:
            value = client.get(execution_id, checkpoints="none").state
        else:
            value = client.get_checkpoint(execution_id, checkpoint_id).state
        output.show(value, json.dumps(value, ensure_ascii=False, indent=2))


@app.command
def pause(
    execution_id: Id,
    *,
    reason: str | None = None,
    until: datetime | None = None,
    on_timeout: OnTimeout = OnTimeout.RESUME,
    wait: Annotated[float, Parameter(help="Seconds, for its process to leave.")] = 0,
    common: CommonOptions = NONE,
) -> None:
    """Pause an execution: its process ends at its next checkpoint."""
    ends = until.astimezone() if until and until.tzinfo is None else until
    with _service(common) as (client, output):
        paused = client.pause(
            execution_id, reason=reason, until=ends, on_timeout=on_timeout, wait=wait
        )
        output.show(paused, f"{paused.id} is {paused.status}.")


@app.command
def cancel(
    execution_id: Id,
    *,
    wait: Annotated[float, Parameter(help="Seconds, for its process to end.")] = 0,
    common: CommonOptions = NONE,
) -> None:
    """Terminate an execution and keep it: it can be resumed."""
    with _service(common) as (client, output):
        cancelled = client.cancel(execution_id, wait=wait)
        output.show(cancelled, f"{cancelled.id} is {cancelled.status}.")


@app.command
def resume(
    execution_id: Id,
    *,
    checkpoint_id: Annotated[str | None, Parameter(help="Roll back to this one.")] = None,
    force: Annotated[
        bool, Parameter(negative="", help="Roll back a running one, too: it is paused first.")
    ] = False,
    input: Annotated[State, Parameter(help="The answer to what it asks: JSON or @FILE.")] = None,  # noqa: A002
    wait: Annotated[float, Parameter(help="Seconds, for its next attempt to begin.")] = 0,
    common: CommonOptions = NONE,
) -> None:
    """Resume an execution, from its newest state or from a checkpoint."""
    with _service(common) as (client, output):
        answer = None if input is None else _json_of(input, "--input")
        resumed = client.resume(
            execution_id, checkpoint_id=checkpoint_id, input=answer, force=force, wait=wait
        )
        for step in resumed.steps_behind:
            undone = ", and is undone" if step.undo else ""
            output.say(f"The step {step.step} has happened behind it{undone}.")
        output.show(resumed, f"{resumed.id} is {resumed.status}.")


@app.command
def delete(execution_id: Id, *, wait: float = 10, common: CommonOptions = NONE) -> None:
    """Delete an execution; one that runs is terminated first."""
    with _service(common) as (client, output):
        gone = client.delete(execution_id, wait=wait)
        rest = "is deleted" if gone else "is being deleted: its process needs longer to end"
        output.show({"id": execution_id, "gone": gone}, f"{execution_id} {rest}.")


@app.command
def fork(
    execution_id: Id,
    *,
    checkpoint_id: str | None = None,
    name: str | None = None,
    deployment: Annotated[
        str | None, Parameter(help="Runs it, in place of the deployment of the other one.")
    ] = None,
    idempotency_key: Repeatable = None,
    common: CommonOptions = NONE,
) -> None:
    """Create an execution that continues from a checkpoint of another one, beside it."""
    with _service(common) as (client, output):
        fork = client.fork(
            execution_id,
            checkpoint_id=checkpoint_id,
            name=name,
            deployment=deployment,
            idempotency_key=idempotency_key,
        )
        output.execution(fork)


@app.command
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
    with _service(common) as (client, output):
        if not yes:
            found = list(client.list(**filter_))
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


@app.command
def diff(
    execution_id: Id, checkpoint_id: str, other_id: str, *, common: CommonOptions = NONE
) -> None:
    """Show what has changed between two checkpoints, as JSON Patch."""
    with _service(common) as (client, output):
        found = client.diff(execution_id, checkpoint_id, other_id)
        lines = [json.dumps(change, ensure_ascii=False) for change in found.patch]
        output.show(found, "\n".join(lines) or "Nothing has changed.")


@app.command
def cost(execution_id: Id, *, common: CommonOptions = NONE) -> None:
    """Show what an execution has cost in the store."""
    with _service(common) as (client, output):
        it = client.cost(execution_id)
        output.show(it, f"{it.puts:,} PUTs; {it.entries:,} objects, {it.bytes_stored:,} bytes.")


@app.command
def watch(
    execution_id: Id,
    *,
    until_ended: Annotated[bool, Parameter(help="Stop when it has ended.")] = True,
    common: CommonOptions = NONE,
) -> None:
    """Follow an execution: status changes and checkpoints, a line each, as they happen.

    Exits with 1 if it has ended and not completed, or was deleted.
    """
    with _service(common, WATCHING) as (client, output):
        for event in client.stream(execution_id):
            data = event.data
            if event.kind == "status":
                state_name, message = data["state_name"], data["message"] or ""
                text: str | Text = status(Status(data["status"])).append(
                    harmless(f" ({state_name}) {message}"), style="default"
                )
            elif event.kind == "checkpoint":
                text = f"{data['checkpoint_id']} {data['label'] or ''} ({data['size']:,} B)"
            else:
                text = "deleted"
            if not output.as_json:
                output.console.print(f"{data['at'][:19]} ", end="")
            output.show({"event": event.kind, **data}, text)
            sys.stdout.flush()
            if event.kind == "deleted":
                sys.exit(REFUSED)
            if event.kind == "status" and until_ended and Status(data["status"]).ended:
                sys.exit(0 if data["status"] == Status.COMPLETED else REFUSED)


def main(command: list[str] | None = None) -> None:
    """Run a command, and exit with its code.

    Args:
        command: Its name and arguments; by default those of the command line.
    """
    try:
        app(sys.argv[1:] if command is None else command)
    except ExecutionError as error:
        end(code_of(error), harmless(f"{error}"))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as with `| head`
        sys.stderr.close()
        sys.exit(0)


def _state(text: str | None) -> dict[str, Any]:
    return {} if text is None else {"state": _json_of(text, "--state")}


def _json_of(text: str, what: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text()
        return json.loads(text, parse_constant=refuse)
    except (OSError, ValueError) as error:
        end(USAGE, f"{what}: {error}; give JSON, or @FILE, or - for standard input.")
