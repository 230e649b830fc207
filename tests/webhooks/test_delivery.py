"""Deliveries to one webhook, in order, from a real Prefect server."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.events.filters import EventFilter, EventResourceFilter
from prefect.states import Completed, Pending, Running, Scheduled, Suspended
from standardwebhooks import Webhook, WebhookVerificationError

from prefect_executions.blocks.webhook import ExecutionWebhook, new_secret
from prefect_executions.ids import execution_id
from prefect_executions.local import free_ports
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.tags import tags_of
from webhook_world import Receiver, WebhookWorld, receiving, save_checkpoint, states
from world import eventually


def test_status_changes_are_delivered_in_order_and_signed(
    here: WebhookWorld, receiver: Receiver
) -> None:
    webhook = here.webhook(receiver)
    here.start()
    run = here.create()

    here.set(run, Scheduled(), Pending(), Running(), Suspended(message="look here"), Completed())

    got = receiver.next(5)
    assert states(got) == ["Scheduled", "Pending", "Running", "Suspended", "Completed"]
    assert [each.json["data"]["status"] for each in got] == [
        *["running", "running", "running"],
        *["paused", "completed"],
    ]
    assert got[0].json["data"]["previous_status"] is None  # it is new
    assert got[3].json["type"] == "execution.status"
    assert got[3].json["data"] == {
        "execution_id": execution_id(run.id),
        "status": "paused",
        "previous_status": "running",
        "state_name": "Suspended",
        "message": "look here",
    }
    assert datetime.fromisoformat(got[3].json["timestamp"]).tzinfo is not None
    assert len({each.id for each in got}) == 5
    for each in got:
        Webhook(webhook.secret.get_secret_value()).verify(each.body, each.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(new_secret()).verify(each.body, each.headers)


def test_a_new_execution_has_no_previous_status(here: WebhookWorld, receiver: Receiver) -> None:
    """Whether a worker or an agent outside Prefect runs it."""
    here.webhook(receiver)
    here.start()
    flow_runs = FlowRuns(here.prefect, store=here.store)

    def create(deployment: str | None) -> FlowRun:
        return flow_runs.create(deployment, name="new", parameters={}, tags=[])

    flow_runs.schedule(create(f"{here.deployment}"))
    by_worker = receiver.next()[0].json["data"]
    flow_runs.start(create(None))
    by_agent = receiver.next()[0].json["data"]

    assert (by_worker["state_name"], by_worker["previous_status"]) == ("Scheduled", None)
    assert (by_agent["state_name"], by_agent["previous_status"]) == ("Running", None)


def test_only_events_that_match_the_block_are_delivered(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver, events=["checkpoint"], agents=["one", "two"])
    here.start()
    ours, other = here.create("agent:one"), here.create("agent:three")
    foreign = here.prefect.create_flow_run_from_deployment(
        here.deployment, tags=["execution", "agent:one", "execution-store:another"]
    )
    here.set(ours, Running())

    for run in (other, foreign, ours):
        save_checkpoint(run)

    [got] = receiver.next()
    assert got.json["type"] == "execution.checkpoint"
    assert got.json["data"] == {
        "execution_id": execution_id(ours.id),
        "checkpoint_id": "ckpt_000007",
        "label": "seven",
        "attempt": 2,
        "size": 70,
    }
    here.stop()
    assert receiver.rest() == []


def test_what_comes_late_into_prefect_is_delivered_late(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver, events=["status", "checkpoint"])
    run = here.create()
    before = datetime.now(UTC)
    here.start(lookback=0)
    here.set(run, Running())
    receiver.next()

    save_checkpoint(run, occurred=before)

    [got] = receiver.next()
    assert got.json["type"] == "execution.checkpoint"
    assert datetime.fromisoformat(got.json["timestamp"]) == before


def test_what_was_before_the_webhook_is_not_delivered(
    here: WebhookWorld, receiver: Receiver
) -> None:
    run = here.create()
    here.set(run, Running())
    here.webhook(receiver)
    here.start()

    here.set(run, Completed())

    assert states(receiver.next()) == ["Completed"]


def test_a_run_that_the_service_did_not_create_is_reported_as_it_begins(
    here: WebhookWorld, receiver: Receiver
) -> None:
    """Prefect caches a run's tags: its events go on without those that were added."""
    here.webhook(receiver)
    here.start()
    run = here.prefect.create_flow_run_from_deployment(here.deployment, state=Scheduled())
    here.set(run, Running())
    events = EventFilter(resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]))
    eventually(
        lambda: here.prefect.read_events(events, limit=1).total == 2, "Prefect keeps both events"
    )

    here.prefect.update_flow_run(run.id, tags=tags_of(here.store))
    here.set(run, Completed())

    seen: set[str] = set()
    while not seen >= {"Running", "Completed"}:
        seen |= set(states(receiver.next()))


def test_what_is_refused_is_tried_again_before_anything_else(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver)
    here.start()
    receiver.answers.extend([500, 302, 404, 200])

    here.set(here.create(), Running(), Completed())

    got = receiver.next(5)
    assert states(got) == ["Running"] * 4 + ["Completed"]
    assert len({each.id for each in got}) == 2
    assert len({each.body for each in got}) == 2


def test_a_receiver_that_is_repaired_is_tried_at_once(
    here: WebhookWorld, receiver: Receiver
) -> None:
    down = f"http://127.0.0.1:{free_ports(1)}"
    here.webhook(replace(receiver, url=down))
    with receiving() as other:
        here.webhook(other)
        here.start(first_retry=3_600, longest_retry=3_600)
        here.set(here.create(), Running())
        other.next()  # so the first receiver was tried, or is about to be
    broken = ExecutionWebhook.load(here.names[0])
    assert isinstance(broken, ExecutionWebhook)

    broken.url = receiver.url
    broken.save(overwrite=True)

    assert states(receiver.next()) == ["Running"]


def test_a_receiver_that_is_gone_turns_the_webhook_off(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver)
    here.start()
    receiver.answers.append(410)

    here.set(here.create(), Running(), Completed())

    eventually(lambda: not here.seen().enabled, "it is turned off")
    here.stop()
    assert states(receiver.rest()) == ["Running"]
    assert here.seen().url == receiver.url


def test_a_receiver_that_is_away_for_long_gets_all_of_it_in_order(
    here: WebhookWorld, receiver: Receiver
) -> None:
    """`Not now` says nothing about a message, however often it comes."""
    here.webhook(receiver)
    receiver.answers.extend([503, 429, 408, 425, 502, 504] * 3)
    here.start(first_retry=0.01, longest_retry=0.02)

    here.set(here.create(), Running(), Completed())

    assert states(receiver.next(20)) == ["Running"] * 19 + ["Completed"]
    here.stop()
    assert here.dead() == []


def test_loopback_is_not_reached_unless_the_block_allows_it(
    here: WebhookWorld, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    here.webhook(receiver, allow_private_addresses=False)
    here.start()

    here.set(here.create(), Running())

    eventually(lambda: "127.0.0.1 is not a public address" in caplog.text, "it is refused")
    here.stop()
    assert receiver.rest() == []


def test_more_than_a_page_is_delivered_in_order(here: WebhookWorld, receiver: Receiver) -> None:
    here.webhook(receiver)
    run = here.create()
    names = [f"Round {n}" for n in range(120)]
    here.set(run, *(Running(name=name) for name in names))

    here.start(save=1)

    assert states(receiver.next(120)) == names
