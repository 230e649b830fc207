"""The commands that export executions to files, and import them."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

from cyclopts import Parameter

from prefect_executions.cli.exits import MISSING, USAGE, end
from prefect_executions.cli.options import StoreName
from prefect_executions.cli.output import Output
from prefect_executions.ids import canonical

if TYPE_CHECKING:
    from prefect_executions.executions.executions import Executions


def export(
    execution_id: Annotated[str, Parameter(help="The execution, by its whole id.")],
    *,
    redact: Annotated[
        list[str] | None,
        Parameter(negative="", help="Leave out values, as in /state/*/email or /results/fetch."),
    ] = None,
    store: StoreName = None,
) -> None:
    """Write an execution to standard output, as one file: `export exec_… > task.tar`.

    It has the log, byte for byte, and what Prefect knows of it. This asks Prefect and the store
    themselves.
    """
    from prefect_executions.executions.archives import export  # noqa: PLC0415
    from prefect_executions.log.redaction import RedactedPath  # noqa: PLC0415

    try:
        paths = [RedactedPath(path) for path in redact or ()]
    except ValueError as error:
        end(USAGE, f"--redact: {error}")
    if sys.stdout.isatty():
        end(USAGE, "The file goes to standard output: add `> FILE`.")
    with opened(store) as executions:
        export(executions, canonical(execution_id), sys.stdout.buffer, redact=paths)
        sys.stdout.buffer.flush()


def import_(
    file: Annotated[str, Parameter(help="What `export` has written; - for standard input.")],
    *,
    deployment: Annotated[
        str | None, Parameter(help="What runs it; by default the deployment of the same name.")
    ] = None,
    store: StoreName = None,
    json: Annotated[bool, Parameter(negative="", help="Print JSON, for programs.")] = False,
) -> None:
    """Make an execution of an exported file, in this Prefect and store.

    It has completed if the other one had; else it is paused, and goes on when it is resumed. The
    file is proven first; the same one again makes no second execution.
    """
    from prefect_executions.executions.archives import Importing  # noqa: PLC0415
    from prefect_executions.executions.creation import Creation  # noqa: PLC0415

    with sought(file) as data, opened(store, to_write=True) as executions:
        made, _ = Importing(Creation(executions)).load(data, deployment=deployment)
        Output(as_json=json).execution(made)


@contextmanager
def sought(file: str) -> Iterator[BinaryIO]:
    """A file that can be sought, also of standard input; or end the command."""
    if file != "-":
        if not Path(file).is_file():
            end(MISSING, f"{file}: there is no such file.")
        with Path(file).open("rb") as data:
            yield data
        return
    with tempfile.TemporaryFile() as copy:
        copyfileobj(sys.stdin.buffer, copy)
        yield copy


@contextmanager
def opened(store: str | None, *, to_write: bool = False) -> Iterator["Executions"]:
    """The executions in a store, on the Prefect of the settings.

    Args:
        store: The name of the block.
        to_write: Whether the store must not be another Prefect's.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.executions.executions import Executions  # noqa: PLC0415
    from prefect_executions.prefect.flow_runs import FlowRuns  # noqa: PLC0415
    from prefect_executions.stores.opening import open_store  # noqa: PLC0415

    found: Any = open_store(store)
    if to_write:
        found.claim()
    with get_client(sync_client=True) as client:
        yield Executions(found.open(), FlowRuns(client, store=found.name))
