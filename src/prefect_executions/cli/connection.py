"""The client of a command, and what the command prints with."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect_executions.cli.exits import USAGE, end
from prefect_executions.cli.options import CommonOptions
from prefect_executions.cli.output import Output
from prefect_executions.client import Client

PATIENCE = 10.0  # seconds: longer than the service's `Retry-After`


@contextmanager
def connected(common: CommonOptions, patience: float = PATIENCE) -> Iterator[tuple[Client, Output]]:
    """A client of the service that the options name, and an output; or end the command.

    Args:
        common: The options.
        patience: How long the service may be away, in seconds.
    """
    try:
        client = Client(common.url, profile=common.profile, patience=patience)
    except ValueError as error:
        end(USAGE, f"{error}")
    with client:
        yield client, Output(as_json=common.json)
