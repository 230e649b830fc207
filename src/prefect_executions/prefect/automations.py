"""Ready automations for Prefect, over the events of executions."""

from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import ResumeFlowRun, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.tags import EXECUTION

NOTIFY = "Tell of executions that have failed"
RESUME = "Resume executions that nobody has resumed"
SHORTEST = timedelta(seconds=10)  # what Prefect waits at least

_OF_EXECUTIONS = {
    "prefect.resource.id": f"prefect.tag.{EXECUTION}",
    "prefect.resource.role": "tag",
}
_ANY_RUN = {"prefect.resource.id": "prefect.flow-run.*"}
_AFTER_A_PAUSE = {
    *("Scheduled", "AwaitingRetry", "Resuming", "Pending", "Running", "Completed"),
    *("Failed", "Crashed", "Cancelling", "Cancelled"),
}
_BODY = """{{ flow_run.name }} has failed: {{ flow_run.state.message }}

{{ flow_run|ui_url }}

Retry continues from its newest checkpoint.
"""


def notify_of_failures(client: SyncPrefectClient, block: str) -> UUID:
    """Send a notification when an execution has failed: no retry is left after an error or a crash.

    Args:
        client: Prefect's client.
        block: The notification block, such as `slack-webhook/alerts`.

    Raises:
        ValueError: There is no such block.
        PrefectUnavailable: Prefect does not answer.
    """
    kind, _, name = block.partition("/")
    with prefect_errors():
        try:
            document = client.read_block_document_by_name(name, kind)
        except ObjectNotFound:
            raise ValueError(
                f"there is no block {block!r}; give its type and name, as slack-webhook/alerts."
            ) from None
    action = SendNotification(
        block_document_id=document.id, subject="{{ flow_run.name }} has failed", body=_BODY
    )
    failed = AutomationCore(
        name=NOTIFY,
        description="An execution has failed, and no retries are left.",
        trigger=EventTrigger(
            match=_ANY_RUN,
            match_related=_OF_EXECUTIONS,
            expect={"prefect.flow-run.Failed"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[action],
    )
    return _save(client, failed)


def resume_after(client: SyncPrefectClient, after: timedelta) -> UUID:
    """Resume each execution from its latest state when it has been paused for some time.

    Args:
        client: Prefect's client.
        after: How long.

    Raises:
        ValueError: The time is shorter than Prefect waits.
        PrefectUnavailable: Prefect does not answer.
    """
    if after < SHORTEST:
        raise ValueError(f"after: give {SHORTEST.total_seconds():.0f} seconds or more.")
    automation = AutomationCore(
        name=RESUME,
        description=f"Nobody has resumed an execution for {after}. A question stays asked.",
        trigger=EventTrigger(
            match=_ANY_RUN,
            match_related=_OF_EXECUTIONS,
            after={"prefect.flow-run.Suspended"},
            expect={f"prefect.flow-run.{name}" for name in _AFTER_A_PAUSE},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=after,
        ),
        actions=[ResumeFlowRun()],
    )
    return _save(client, automation)


def _save(client: SyncPrefectClient, automation: AutomationCore) -> UUID:
    """Create an automation, or replace the one with its name."""
    with prefect_errors():
        for known in client.read_automations_by_name(automation.name):
            client.update_automation(known.id, automation)
            return known.id
        return client.create_automation(automation)
