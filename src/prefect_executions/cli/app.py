"""The command line: its commands, and how they end."""

import sys

from cyclopts import App, Group

from prefect_executions import __version__
from prefect_executions.cli import (
    archives,
    automations,
    bisecting,
    checkpoints,
    comparing,
    control,
    copying,
    dev,
    doctor,
    executions,
    keys,
    mcp,
    replaying,
    running,
    service,
    store,
    watch,
    webhooks,
)
from prefect_executions.cli.exits import code_of, end
from prefect_executions.cli.output import harmless
from prefect_executions.errors import ExecutionError

app = App(
    name="prefect-executions",
    help="Durable executions on Prefect. Exit codes: 0 done, 1 refused, 2 wrong usage, 3 not "
    "there, 4 no permission, 5 not to be reached.",
    version=__version__,
)
for _command in (
    *(executions.list_, executions.get, executions.create, executions.delete),
    *(executions.fork, executions.bulk, executions.cost),
    *(control.pause, control.cancel, control.resume),
    *(checkpoints.checkpoint, checkpoints.checkpoints, checkpoints.state, checkpoints.diff),
    checkpoints.edit,
    bisecting.bisect,
    comparing.compare,
    watch.watch,
):
    app.command(_command)
app.command(running.run)
app.command(mcp.mcp)
app.command(replaying.replay)
app.command(store.app)
app.command(copying.copy_store)
app.command(archives.export)
app.command(archives.import_, name="import")
app.command(keys.app)
app.command(automations.app)
app.command(webhooks.app)
app.register_install_completion_command()
_SERVICE = Group("Service", sort_key=9)
for _of_the_service in (
    service.serve,
    service.deploy,
    service.gc,
    doctor.doctor,
    dev.dev,
    service.demo,
):
    app.command(_of_the_service, group=_SERVICE)


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
