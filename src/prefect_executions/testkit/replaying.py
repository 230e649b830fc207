"""`replay`: an execution of production, run again here, with all that it has recorded."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from prefect.flows import Flow
from prefect.testing.utilities import prefect_test_harness

from prefect_executions.testkit.kit import testing
from prefect_executions.testkit.origin import Origin, read_origin
from prefect_executions.testkit.trial import Trial

_STARTUP = 120  # seconds in which Prefect's server starts, also on a busy machine


def replay(
    flow: Flow[..., Any],
    source: str | Path | Origin,
    *,
    checkpoint_id: str | None = None,
    allow: Collection[str] = (),
    before_step: Callable[[str], object] = lambda _: None,
    store: str | None = None,
) -> Trial:
    """Run a flow's code in this process from a checkpoint of an execution; nothing is written.

    Steps get what was recorded of them anywhere in the log, and questions their answers. A step
    that was never recorded is refused before it runs. The log is a copy in memory, and Prefect a
    server of its own that ends with this call: neither the store nor the Prefect of the execution
    gets a write. In a test that has a `TestKit` already `TestKit.replay` is quicker.

    Code that is no step runs as ever.

    Args:
        flow: The flow, decorated with `@execution`, in the code that is to be tried.
        source: The execution's id, or the path of a file that `export` has written.
        checkpoint_id: Where it begins; by default at the beginning.
        allow: The names of steps that may run, though they were never recorded.
        before_step: Called with the name of each step before it is answered or run: a debugger.
        store: The Execution Store block that has it, by default that of the settings.

    Returns:
        What it has come to: `status`, `result`, `error`, `checkpoints` and `state`.

    Raises:
        CheckpointNotFound: there is no such checkpoint.
        ArchiveError, FileNotFoundError, ExecutionNotFound: see `read_origin`.
    """
    origin = source if isinstance(source, Origin) else read_origin(source, store=store)
    with prefect_test_harness(server_startup_timeout=_STARTUP), testing() as kit:
        trial = kit.replay(
            flow, origin, checkpoint_id=checkpoint_id, allow=allow, before_step=before_step
        )
        return trial.ended()
