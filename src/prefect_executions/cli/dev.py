"""The command that runs all of it on this machine, for developing flows."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from prefect_executions.cli.exits import REFUSED, end


def dev(
    *,
    data: Annotated[
        Path | None,
        Parameter(help="All data; by default ~/.local/share/prefect-executions/dev."),
    ] = None,
    prefect_port: Annotated[int, Parameter(help="Of Prefect's server and UI.")] = 4200,
    port: Annotated[int, Parameter(help="Of the service and its inspector.")] = 4300,
    pool: Annotated[str, Parameter(help="The work pool of the worker.")] = "executions",
    s3: Annotated[
        bool,
        Parameter(
            negative="",
            help="Keep executions on an S3 server, as in production, and not in a directory; wants "
            "prefect-executions[local].",
        ),
    ] = False,
    s3_port: Annotated[int, Parameter(help="The first of its ten ports.")] = 4310,
) -> None:
    """Run Prefect's server, a store, a worker and the service here, until Ctrl-C.

    Nothing is deployed, and what is there stays for the next time.
    """
    from prefect_executions.local.dev import Ports, home, run  # noqa: PLC0415

    try:
        run(data or home(), Ports(prefect_port, port, s3_port if s3 else None), pool=pool)
    except (ValueError, RuntimeError) as error:  # a port in use, a program that does not start
        end(REFUSED, f"{error}")
