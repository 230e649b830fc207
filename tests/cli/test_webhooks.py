"""The commands for webhooks, against real Prefect, S3 and receivers."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client

from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.local import Stack
from prefect_executions.stores.store import load_store
from prefect_executions.webhooks.dead_letters import DeadLetter, DeadLetters
from running import Run, json_of
from webhook_world import Receiver, receiving

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def name(stack: Stack, receiver: Receiver) -> Iterator[str]:
    """A webhook in Prefect with three dead letters in the store."""
    name = f"hook-{uuid4().hex}"
    webhook = ExecutionWebhook(url=receiver.url, allow_private_addresses=True)
    id_ = webhook.save(name)
    assert isinstance(id_, UUID)
    letters = DeadLetters(load_store().open(), id_)
    for n in range(3):
        letters.keep(
            DeadLetter(
                id=f"evt_{n:032x}",
                body=json.dumps(
                    {
                        "type": "execution.status",
                        "data": {"execution_id": f"exec_{n:032x}", "status": "failed"},
                    }
                ),
                occurred_at=NOON + timedelta(seconds=n),
                died_at=NOON + timedelta(hours=1),
                tries=8,
                reason="500",
            )
        )
    yield name
    for letter in letters.read():
        letters.remove(letter)
    if name in {f"{item}" for item in _names()}:
        ExecutionWebhook.delete(name)


def _names() -> list[str | None]:
    with get_client(sync_client=True) as client:
        found = client.read_block_documents_by_type("execution-webhook")
    return [document.name for document in found]


def ids(run: Run, name: str) -> list[str]:
    return [letter["id"] for letter in json_of(run, "webhooks", "dead-letters", name)]


def test_dead_letters_are_seen_sent_again_and_discarded(
    run: Run, name: str, receiver: Receiver
) -> None:
    [row] = [row for row in json_of(run, "webhooks", "list") if row["name"] == name]
    assert (row["url"], row["enabled"], row["dead_letters"]) == (receiver.url, True, 3)
    assert name in run("webhooks", "list")[1]
    first, second, third = ids(run, name)
    shown = run("webhooks", "dead-letters", name)[1].splitlines()[0].split("\t")
    assert shown == [
        first,
        f"execution.status exec_{0:032x} failed",
        "2026-11-24T12:00:00Z",
        "8",
        "500",
    ]

    receiver.answers.append(422)
    assert run("webhooks", "send-again", name, second) == (1, f"{second}\t422\n", "")
    assert ids(run, name) == [first, second, third]
    assert json_of(run, "webhooks", "send-again", name, third, first) == [
        {"id": first, "answer": "204"},
        {"id": third, "answer": "204"},
    ]
    assert [got.id for got in receiver.rest()] == [second, first, third]
    assert ids(run, name) == [second]
    assert run("webhooks", "discard", name, second) == (0, "1 were removed.\n", "")
    assert ids(run, name) == []
    assert run("webhooks", "send-again", name)[0] == 0
    assert receiver.rest() == []


def test_all_are_sent_again_by_default(run: Run, name: str, receiver: Receiver) -> None:
    assert run("webhooks", "send-again", name)[0] == 0

    assert len(receiver.rest()) == 3
    assert ids(run, name) == []


def test_what_is_not_there_is_said(run: Run, name: str, receiver: Receiver) -> None:
    code, out, err = run("webhooks", "dead-letters", "no-hook")
    assert (code, out) == (3, "")
    assert "There is no webhook 'no-hook'" in err
    assert name in err
    for command in ("send-again", "discard"):
        code, out, err = run("webhooks", command, name, "evt_9", f"evt_{0:032x}")
        assert (code, out) == (3, "")
        assert err.startswith("evt_9: there is no such dead letter")
    assert run("webhooks", "discard", name)[0] == 2
    assert run("webhooks", "discard", name, "evt_9", "--all")[0] == 2
    assert receiver.rest() == []
    assert len(ids(run, name)) == 3


def test_those_of_a_deleted_webhook_are_found_by_its_id(
    run: Run, name: str, receiver: Receiver
) -> None:
    loaded = ExecutionWebhook.load(name)
    assert isinstance(loaded, ExecutionWebhook)
    id_ = f"{loaded._block_document_id}"
    ExecutionWebhook.delete(name)

    [row] = [row for row in json_of(run, "webhooks", "list") if row["name"] == id_]
    assert (row["url"], row["dead_letters"]) == (None, 3)
    assert len(ids(run, id_)) == 3
    code, _, err = run("webhooks", "send-again", id_)
    assert (code, "was deleted" in err) == (3, True)
    assert run("webhooks", "discard", id_, "--all") == (0, "3 were removed.\n", "")
    assert ids(run, id_) == []
