"""Dead letters: what a receiver has refused too often is kept, and can be sent again."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import cast
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.filters import EventFilter, EventResourceFilter
from prefect.states import Completed, Running, Suspended

from killing import CalledObjects, CalledTransport, Caller, Killed
from prefect_executions.blocks.documents import write
from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.errors import CorruptEntry
from prefect_executions.ids import execution_id
from prefect_executions.local import free_ports
from prefect_executions.prefect.tags import tags_of
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.storage.s3 import S3Objects
from prefect_executions.webhooks.dead_letters import DeadLetter, DeadLetters, count_dead_letters
from prefect_executions.webhooks.delivery import Delivery
from prefect_executions.webhooks.hooks import Hook, read_hooks
from prefect_executions.webhooks.lease import Lease
from prefect_executions.webhooks.sending import Answer, Verdict, send
from stores import Fault, Faulty
from webhook_world import TIMING, Receiver, WebhookWorld, states
from world import eventually

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def letter(n: int, *, occurred: datetime | None = None) -> DeadLetter:
    return DeadLetter(
        id=f"evt_{n:032x}",
        body=f'{{"type":"execution.status","data":{{"execution_id":"e","status":"failed","n":{n}}}}}',
        occurred_at=occurred or NOON + timedelta(seconds=n),
        died_at=NOON + timedelta(hours=1),
        tries=3,
        reason="400",
    )


# ---------------------------------------------------------------------- in the store


def test_they_are_kept_once_oldest_first_until_they_are_removed(s3: S3Objects) -> None:
    own, other = DeadLetters(s3, UUID(int=1)), DeadLetters(s3, UUID(int=2))
    east = timezone(timedelta(hours=9))
    early = letter(9, occurred=NOON.astimezone(east) - timedelta(seconds=1))
    for each in (letter(2), letter(1), early, letter(2).model_copy(update={"tries": 99})):
        own.keep(each)
    other.keep(letter(3))

    assert list(own.read()) == [early, letter(1), letter(2)]
    assert list(own.read([letter(2).id, letter(3).id])) == [letter(2)]
    assert count_dead_letters(s3) == {UUID(int=1): 3, UUID(int=2): 1}

    own.remove(letter(1))
    own.remove(letter(1))
    assert list(own.read()) == [early, letter(2)]


def test_many_are_read_in_order(memory: MemoryObjects) -> None:
    letters = DeadLetters(memory, uuid4())
    for n in reversed(range(230)):
        letters.keep(letter(n))

    assert [each.id for each in letters.read()] == [letter(n).id for n in range(230)]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"v": 1}', b'{"v": 2}'])
def test_what_can_not_be_read_is_said(memory: MemoryObjects, data: bytes) -> None:
    letters = DeadLetters(memory, uuid4())
    letters.keep(letter(1))
    [key] = memory.scan("")
    memory.delete([key])
    memory.create(key, data)

    with pytest.raises(CorruptEntry, match=r"dead letter|format 2"):
        list(letters.read())


# ---------------------------------------------------------------------- becoming one


def test_after_three_rejections_the_next_event_is_delivered(
    here: WebhookWorld, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    here.webhook(receiver)
    receiver.answers.extend([400, 500, 404, 422])
    here.start()
    run = here.create()

    here.set(run, Running(), Completed())

    got = receiver.next(5)
    assert states(got) == ["Running"] * 4 + ["Completed"]
    [dead] = here.dead()
    assert (dead.id, dead.body.encode()) == (got[0].id, got[0].body)
    assert (dead.tries, dead.reason) == (4, "422")
    assert dead.subject == f"execution.status {execution_id(run.id)} running"
    assert dead.occurred_at <= dead.died_at
    assert f"{dead.id} is a dead letter after 4 tries: 422" in caplog.text


def test_after_eight_failures_the_next_event_is_delivered(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver)
    receiver.answers.extend([500, 503, *[500, 302] * 4])
    here.start(first_retry=0.01, longest_retry=0.02)

    here.set(here.create(), Running(), Completed())

    assert states(receiver.next(10)) == ["Running"] * 9 + ["Completed"]
    [dead] = here.dead()
    assert (dead.tries, dead.reason) == (9, "500")


def test_what_is_too_old_is_a_dead_letter(here: WebhookWorld, receiver: Receiver) -> None:
    here.webhook(receiver)
    receiver.answers.append(503)
    here.start(give_up=0)

    here.set(here.create(), Running(), Completed())

    assert states(receiver.next(2)) == ["Running", "Completed"]
    [dead] = here.dead()
    assert (dead.tries, dead.reason) == (1, "503")


def test_while_the_store_is_away_nothing_is_passed_over(
    here: WebhookWorld, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    kept = here.objects
    here.objects = Faulty(kept, [Fault.REPEATED, Fault.ANSWER_LOST, Fault.LOST, Fault.LOST])
    here.webhook(receiver)
    receiver.refused.add("Running")
    here.start(first_retry=0.01, longest_retry=0.02)

    here.set(here.create(), Running(), Completed())

    got = receiver.next(7)
    assert states(got) == ["Running"] * 6 + ["Completed"]
    assert [dead.id for dead in here.dead()] == [got[0].id]
    assert "no dead letter can be kept now" in caplog.text


@dataclass
class Held:
    """A lease that nobody takes away."""

    held: bool = True


@dataclass
class Rig:
    """Deliveries to one webhook that are killed; each begins with what Prefect and the store have.

    Its receiver refuses the second of three messages, whenever it comes.
    """

    here: WebhookWorld
    receiver: Receiver
    hook_id: UUID

    def hook(self) -> Hook:
        [found] = [
            hook for hook in read_hooks(self.here.prefect) if hook.document.id == self.hook_id
        ]
        return found

    def deliver(self, caller: Caller) -> None:
        """Deliver all events, as one process does until it ends in good order."""
        url = str(self.here.prefect.api_url)
        hook = self.hook()

        def counted(webhook: ExecutionWebhook, message: object, *, timeout: float) -> Answer:
            return caller.ask("post", lambda: send(webhook, message, timeout=timeout))  # type: ignore[arg-type]

        with SyncPrefectClient(url) as client:
            client._client._transport = CalledTransport(client._client._transport, caller)
            delivery = Delivery(
                client,
                hook,
                objects=lambda: CalledObjects(self.here.objects, caller),
                tags=tags_of(self.here.store),
                lease=cast("Lease", Held()),
                timing=replace(TIMING, first_retry=0.001, longest_retry=0.001),
            )
            with patch("prefect_executions.webhooks.delivery.send", counted):
                delivery._deliver_new()
                delivery._cursor.save(at_once=True)

    def begin_anew(self) -> None:
        write(self.here.prefect, self.hook_id, delivered_until=None, delivered=[])
        self.here.objects = MemoryObjects()
        self.receiver.rest()


def test_a_delivery_that_is_killed_anywhere_loses_no_event_and_no_dead_letter(
    here: WebhookWorld, receiver: Receiver
) -> None:
    here.webhook(receiver)
    id_ = here.seen()._block_document_id
    assert isinstance(id_, UUID)
    receiver.refused.add("Suspended")
    run = here.create()
    here.set(run, Running(), Suspended(), Completed())
    events = EventFilter(resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]))
    eventually(
        lambda: here.prefect.read_events(events, limit=1).total == 4, "Prefect has the events"
    )
    rig, requests = Rig(here, receiver, id_), list[str]()

    for n in count():
        rig.begin_anew()
        killed = Caller(dies_after=n)
        try:
            rig.deliver(killed)
        except Killed:
            rig.deliver(Caller())
        else:
            requests = killed.requests
        got = receiver.rest()
        names = states(got)
        firsts = list(dict.fromkeys(names))
        assert firsts == ["Running", "Suspended", "Completed"], (n, names)
        assert len({each.id for each in got}) == 3, n
        assert [dead.id for dead in here.dead()] == [got[names.index("Suspended")].id], n
        rig.deliver(Caller())
        assert receiver.rest() == [], n
        if requests:
            break

    assert requests.count("post") == 5
    assert requests.count("store: create") == 1
    assert any(request.startswith("Prefect: PATCH") for request in requests)


# ---------------------------------------------------------------------- sending again


def test_what_is_accepted_is_removed_and_what_is_refused_stays(
    memory: MemoryObjects, receiver: Receiver
) -> None:
    letters = DeadLetters(memory, uuid4())
    for n in range(3):
        letters.keep(letter(n))
    webhook = ExecutionWebhook(url=receiver.url, allow_private_addresses=True)
    receiver.answers.extend([200, 400, 204])

    sent = list(letters.send_again(webhook, timeout=5))

    assert [(each.id, answer.reason) for each, answer in sent] == [
        (letter(0).id, "200"),
        (letter(1).id, "400"),
        (letter(2).id, "204"),
    ]
    assert [(got.id, got.body) for got in receiver.rest()] == [
        (letter(n).id, letter(n).body.encode()) for n in range(3)
    ]
    assert list(letters.read()) == [letter(1)]
    assert [each.id for each, _ in letters.send_again(webhook, [letter(1).id], timeout=5)] == [
        letter(1).id
    ]
    assert list(letters.read()) == []


def test_it_ends_where_the_receiver_can_not_be_reached(memory: MemoryObjects) -> None:
    letters = DeadLetters(memory, uuid4())
    for n in range(3):
        letters.keep(letter(n))
    down = f"http://127.0.0.1:{free_ports(1)}"
    webhook = ExecutionWebhook(url=down, allow_private_addresses=True)

    sent = list(letters.send_again(webhook, timeout=5))

    assert [(each.id, answer.verdict) for each, answer in sent] == [(letter(0).id, Verdict.LATER)]
    assert len(list(letters.read())) == 3
