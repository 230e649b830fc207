"""The commands for automations, which Prefect itself carries out."""

from datetime import timedelta

from cyclopts import App

from prefect_executions.cli.exits import clearly

app = App(name="automations", help="Create ready automations in Prefect; asks Prefect itself.")


@app.command
def notify(block: str) -> None:
    """Send a notification when an execution has failed for good.

    Parameters
    ----------
    block
        The notification block in Prefect, as slack-webhook/alerts.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.prefect.automations import notify_of_failures  # noqa: PLC0415

    with clearly(), get_client(sync_client=True) as client:
        notify_of_failures(client, block)
        print(f"Failures are sent to {block}.")


@app.command
def resume(*, after: timedelta) -> None:
    """Resume each execution that has been paused for so long.

    Parameters
    ----------
    after
        How long, as 8h or 90m.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.prefect.automations import resume_after  # noqa: PLC0415

    with clearly(), get_client(sync_client=True) as client:
        resume_after(client, after)
        print(f"Executions that have been paused for {after} are resumed.")
