"""The commands that need Prefect where they run: for the service, the store, the demo."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from prefect_executions.cli.exits import REFUSED, clearly, end
from prefect_executions.cli.output import Output


def serve(*, host: str = "127.0.0.1", port: int = 4300) -> None:
    """Run the REST service here, as a flow run in Prefect, until Ctrl-C or SIGTERM."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.prefect.errors import prefect_errors  # noqa: PLC0415
    from prefect_executions.service.flows import executions_service  # noqa: PLC0415

    with prefect_errors(), get_client(sync_client=True) as client:
        client.hello()  # fail at once when Prefect is away
    try:
        executions_service(host=host, port=port)
    except (ValueError, RuntimeError) as error:  # no key, or a port that is in use
        end(REFUSED, f"{error}")


def deploy(
    *,
    pool: Annotated[str, Parameter(help="The work pool.")],
    name: Annotated[str, Parameter(help="Of the deployment.")] = "default",
    image: Annotated[
        str | None, Parameter(help="Of the containers; with this package installed.")
    ] = None,
    job_variable: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            json_list=False,
            help="NAME=VALUE, or NAME.KEY=VALUE, as in env.FORWARDED_ALLOW_IPS=10.0.0.0/8.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        Parameter(help="Listen on it; by default 127.0.0.1, and 0.0.0.0 in a container."),
    ] = None,
    port: int = 4300,
) -> None:
    """Deploy the REST service to a work pool; a run of it serves until it is cancelled."""
    from prefect_executions.service.deployment import deploy_service  # noqa: PLC0415

    with clearly():
        deployed = deploy_service(
            pool=pool,
            name=name,
            host=host,
            port=port,
            image=image,
            job_variables=job_variable or [],
        )
    print(deployed)


def gc(
    *,
    store: Annotated[str | None, Parameter(help="The block; by default the settings'.")] = None,
    dry_run: Annotated[bool, Parameter(negative="", help="Only list them.")] = False,
    force: Annotated[
        bool, Parameter(negative="", help="Even if Prefect knows none of the executions there.")
    ] = False,
    adopt: Annotated[
        bool,
        Parameter(
            negative="",
            help="Only take the store over from another Prefect, which is gone for good.",
        ),
    ] = False,
    json: Annotated[bool, Parameter(negative="", help="Print JSON, for programs.")] = False,
) -> None:
    """Remove what the store has of executions whose flow runs are gone from Prefect."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.executions.executions import Executions  # noqa: PLC0415
    from prefect_executions.prefect.flow_runs import FlowRuns  # noqa: PLC0415
    from prefect_executions.stores.store import load_store  # noqa: PLC0415
    from prefect_executions.supervisor.orphans import Orphans  # noqa: PLC0415

    output = Output(as_json=json)
    with get_client(sync_client=True) as client:
        block = load_store(store)
        if adopt:
            block.adopt()
            output.say("The store belongs to this Prefect now; nothing was removed.")
            return
        block.claim()
        orphans = Orphans(Executions(block.open(), FlowRuns(client, store=f"{block.name}")))
        survey = orphans.report()
        found = survey.orphans
        output.rows(
            found,
            "id entries bytes written",
            (
                (o.execution_id, f"{o.entries:,}", f"{o.bytes_stored:,}", o.written_at)
                for o in found
            ),
        )
        output.say(f"{survey.known} of {survey.logs} executions there have a flow run in Prefect.")
        if dry_run or not found:
            output.say(f"{len(found)} have none, and can be removed.")
            return
        if not survey.known and not force:
            end(
                REFUSED,
                f"This Prefect, {client.api_url}, knows none of the {survey.logs} executions: it "
                "may not be theirs. Nothing was removed; give --force to remove them all the same.",
            )
        removed = sum(orphans.remove(orphan) for orphan in found)
        output.say(f"{removed} were removed.")


def demo(
    *, data: Path = Path(".data/demo"), keep: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """Run the main job end to end on this machine; `--keep` leaves all of it up."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # as for its servers; or Prefect prints a notice
    from prefect_executions.local.demo import run  # noqa: PLC0415

    try:
        run(data, keep=keep)
    except RuntimeError as error:  # a program that does not start
        end(REFUSED, f"{error}")
