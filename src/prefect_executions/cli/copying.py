"""The command that copies executions from one store to another."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import BaseModel

from prefect_executions.cli.exits import MISSING, REFUSED, USAGE, end
from prefect_executions.cli.output import Output

if TYPE_CHECKING:
    from prefect_executions.stores.store import ExecutionStore

_Place = Annotated[str, Parameter(help="An Execution Store block, or a directory: ./here, /there.")]


class _Left(BaseModel):
    """What was not copied, or not all of it."""

    folder: str
    problem: str


class _Summary(BaseModel):
    """What a copy came to."""

    executions: int
    objects: int
    new: int
    bytes: int
    left: list[_Left]


def copy_store(
    from_: Annotated[_Place, Parameter(name="FROM")],
    to: Annotated[_Place, Parameter(name="TO")],
    *,
    json: Annotated[bool, Parameter(negative="", help="Print JSON, for programs.")] = False,
) -> None:
    """Copy all executions from one store to another, as from a directory to a bucket.

    Every object is read back and compared. FROM stays as it is, and nothing in TO is overwritten;
    done again, the command copies what is missing. What is running is left out: stop it first.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas.objects import StateType  # noqa: PLC0415

    from prefect_executions.ids import execution_id  # noqa: PLC0415
    from prefect_executions.prefect.listing import in_states, pages_of  # noqa: PLC0415
    from prefect_executions.prefect.tags import EXECUTION  # noqa: PLC0415
    from prefect_executions.storage.copying import copy  # noqa: PLC0415

    source, target = _store(from_), _store(to)
    objects, other = source.objects(), target.objects()
    if objects == other:
        end(USAGE, f"FROM and TO are one store, {source.place}.")
    if next(objects.scan("", limit=1), None) is None:
        end(MISSING, f"FROM: there is nothing in {source.place}.")
    target.check()
    for store in (source, target):
        store.claim()
    with get_client(sync_client=True) as client:
        active = in_states([EXECUTION], StateType.RUNNING, StateType.PENDING)
        running = {execution_id(run.id) for page in pages_of(client, active) for run in page}

    def refuse(folder: str) -> str | None:
        is_running = folder.rpartition("/")[2] in running
        return "It is running: pause it, or end it." if is_running else None

    done = list(copy(objects, other, refuse=refuse))
    output = Output(as_json=json)
    summary = _Summary(
        executions=sum("/exec_" in copied.folder and not copied.problem for copied in done),
        objects=sum(copied.objects for copied in done),
        new=sum(copied.new for copied in done),
        bytes=sum(copied.size for copied in done),
        left=[_Left(folder=c.folder, problem=c.problem) for c in done if c.problem],
    )
    text = (
        f"{summary.executions} executions are in {target.place}, and the same as in "
        f"{source.place}: {summary.objects:,} objects, {summary.new:,} of them new, with "
        f"{summary.bytes:,} bytes."
    )
    output.show(summary, text)
    if summary.left:
        lines = (f"{left.folder}: {left.problem}" for left in summary.left)
        end(REFUSED, "\n".join([*lines, f"{len(summary.left)} were not copied, or not wholly."]))


def _store(place: str) -> "ExecutionStore":
    from prefect_executions.stores.store import ExecutionStore, load_store  # noqa: PLC0415

    if place.startswith((".", "~")) or os.sep in place:
        return ExecutionStore(directory=f"{Path(place).expanduser().absolute()}")
    return load_store(place)
