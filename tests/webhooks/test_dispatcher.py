"""Deliveries for all webhooks, by one replica at a time, over a real Prefect server."""

from contextvars import copy_context
from dataclasses import replace
from threading import Event, Thread
from unittest.mock import patch
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed, Running, Suspended
from standardwebhooks import Webhook

from prefect_executions.blocks.documents import documents_of, write
from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.local import Stack, free_ports
from prefect_executions.webhooks.dispatcher import deliver
from webhook_world import PATIENCE, Receiver, WebhookWorld, states
from world import eventually


def test_what_was_missed_is_delivered_by_the_next_dispatcher(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver)
    run = here.create()
    here.set(run, Running())
    here.start()
    receiver.next()
    here.stop()
    here.set(run, Suspended(), Completed())

    here.start()

    assert states(receiver.next(2)) == ["Suspended", "Completed"]
    here.stop()
    assert receiver.rest() == []


def test_a_dispatcher_that_is_stopped_in_mid_way_repeats_nothing_but_what_failed(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver)
    receiver.answers.extend([200, *[503] * 1_000])  # however often: no dead letter
    here.start()
    here.set(here.create(), Running(), Suspended(), Completed())
    first, failed = receiver.next(2)
    here.stop()
    repeated = {each.id for each in receiver.rest()}
    receiver.answers.clear()

    here.start()

    again, last = receiver.next(2)
    assert (first.state, failed.state, last.state) == ("Running", "Suspended", "Completed")
    assert {again.id} | repeated == {failed.id}
    assert again.body == failed.body


def test_a_dispatcher_that_is_killed_repeats_itself_with_the_same_ids(
    here: WebhookWorld, receiver: Receiver, prefect: SyncPrefectClient
) -> None:
    here.webhook(receiver)
    killed = here.dispatcher(save=3_600, save_idle=3_600, term=60)
    killed.reconcile()
    here.set(here.create(), Running(), Completed())
    first = receiver.next(2)
    for delivery in killed._deliveries.values():  # as if the process was killed: no last save
        delivery._cursor.save = lambda **_: None  # type: ignore[method-assign]
        delivery.stop()
        delivery.join(PATIENCE)

    here.start()

    again = receiver.next(2)
    assert [(each.id, each.body) for each in again] == [(each.id, each.body) for each in first]


def test_of_two_dispatchers_one_delivers(here: WebhookWorld, receiver: Receiver) -> None:
    here.webhook(receiver)
    for _ in range(3):
        here.start()
    run = here.create()

    here.set(run, Running(), Suspended(), Running(), Completed())

    got = receiver.next(4)
    assert states(got) == ["Running", "Suspended", "Running", "Completed"]
    stop, thread = here.running.pop(0)  # it may be the one that delivers, or not
    stop.set()
    thread.join(PATIENCE)
    here.set(run, Running())
    assert states(receiver.next()) == ["Running"]
    here.stop()
    assert receiver.rest() == []


def test_a_receiver_that_is_down_is_not_in_the_others_way(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver)
    down = f"http://127.0.0.1:{free_ports(1)}"
    here.webhook(replace(receiver, url=down))
    here.start()

    here.set(here.create(), Running(), Completed())

    assert states(receiver.next(2)) == ["Running", "Completed"]
    here.stop()
    assert here.seen().delivered == []


def test_a_webhook_that_was_turned_off_as_it_was_read_gets_no_other_delivery(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver)
    dispatcher = here.dispatcher()
    dispatcher.reconcile()
    read = documents_of(here.prefect, "execution-webhook", include_secrets=True)
    receiver.answers.append(410)
    here.set(here.create(), Running())
    [delivery] = dispatcher._deliveries.values()
    eventually(lambda: not delivery.is_alive, "it is turned off")

    with patch("prefect_executions.webhooks.hooks.documents_of", return_value=read):
        dispatcher.reconcile()

    assert not dispatcher._deliveries
    assert not here.seen().enabled


def test_a_block_that_was_saved_without_a_secret_gets_one(
    here: WebhookWorld, receiver: Receiver
) -> None:
    """The form in the Prefect UI may leave it out."""
    here.webhook(receiver)
    id_ = here.seen()._block_document_id
    assert isinstance(id_, UUID)
    write(here.prefect, id_, secret=None)
    here.start()

    here.set(here.create(), Running())

    [got] = receiver.next()
    Webhook(here.seen().secret.get_secret_value()).verify(got.body, got.headers)


def test_a_webhook_that_is_not_valid_is_not_in_the_others_way(
    here: WebhookWorld, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    here.webhook(receiver)
    id_ = here.seen()._block_document_id
    assert isinstance(id_, UUID)
    wrong = {"delivered": ["odd"], "delivered_until": "2026-11-24T10:00:00"}
    write(here.prefect, id_, url="nonsense", secret="whsec_verysecret", **wrong)
    here.webhook(receiver)
    here.start()

    here.set(here.create(), Running())

    receiver.next()
    for field_ in ("url: ", "secret: ", "delivered.0: ", "delivered_until: "):
        assert field_ in caplog.text
    assert "verysecret" not in caplog.text


def test_prefect_gives_all_webhooks_at_once(here: WebhookWorld, receiver: Receiver) -> None:
    """It ignores limit and offset here; otherwise `documents_of` would have to read pages."""
    here.webhook(receiver)
    here.webhook(receiver)

    first = here.prefect.read_block_documents_by_type("execution-webhook", limit=1)
    second = here.prefect.read_block_documents_by_type("execution-webhook", limit=1, offset=1)

    assert [document.id for document in first] == [document.id for document in second]
    assert {document.name for document in first} >= set(here.names)


def test_a_prefect_that_has_never_seen_a_webhook_is_no_trouble(
    here: WebhookWorld, caplog: pytest.LogCaptureFixture
) -> None:
    block_type = here.prefect.read_block_type_by_slug("execution-webhook")
    here.prefect.delete_block_type(block_type.id)

    here.dispatcher().reconcile()

    assert [r for r in caplog.records if r.name.startswith("prefect_executions")] == []
    ExecutionWebhook.register_type_and_schema(_sync=True)  # type: ignore[call-arg]


def test_it_waits_for_a_prefect_that_is_away(stack: Stack) -> None:
    stop = Event()
    url = f"http://127.0.0.1:{free_ports(1)}/api"
    with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
        thread = Thread(target=copy_context().run, args=(deliver, stop))
        thread.start()
    thread.join(3)

    assert thread.is_alive()
    stop.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
