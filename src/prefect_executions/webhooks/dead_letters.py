"""Dead letters: messages that a webhook's receiver has refused too often, kept in the store.

Each is an object of its own. It is written before the delivery goes on with the next event, and
removed when its message was sent again and accepted. Its key follows from the event alone, so a
delivery that is killed in between writes no second one.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict

from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.errors import AlreadyExists, CorruptEntry
from prefect_executions.storage.objects import Objects
from prefect_executions.webhooks.message import Message
from prefect_executions.webhooks.sending import Answer, Verdict, send

_ROOT = "webhooks/"  # keys of logs have two slashes, and these three
_FORMAT = 1
_AT_ONCE = 100  # objects that are read at a time


class DeadLetter(BaseModel):
    """A message that was not delivered.

    Attributes:
        id: The id of the message, which is the same when it is sent again.
        body: Its JSON.
        occurred_at: When that happened which it reports.
        died_at: When the delivery gave it up.
        tries: How often it was sent.
        reason: The status of the receiver's last answer, or why there was none.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    body: str
    occurred_at: AwareDatetime
    died_at: AwareDatetime
    tries: int
    reason: str

    @property
    def subject(self) -> str:
        """What the message is about, in a few words."""
        body = orjson.loads(self.body)
        data = body["data"]
        what = data.get("status") or data.get("checkpoint_id")
        return f"{body['type']} {data['execution_id']} {what}"

    @property
    def message(self) -> Message:
        """The message, as it was sent."""
        return Message(self.id, self.body)


class DeadLetters:
    """The dead letters of one webhook, oldest first.

    Args:
        objects: The store.
        webhook_id: The id of the webhook's block document.

    Every method raises `StoreUnavailable` when the store does not respond.
    """

    def __init__(self, objects: Objects, webhook_id: UUID) -> None:
        self._objects = objects
        self._prefix = f"{_ROOT}{webhook_id.hex}/dead-letters/"

    def keep(self, letter: DeadLetter) -> None:
        """Keep a dead letter, durably; one that is kept already stays as it is."""
        data = orjson.dumps({"v": _FORMAT, **letter.model_dump(mode="json")})
        with suppress(AlreadyExists):
            self._objects.create(self._key(letter), data)

    def read(self, ids: Collection[str] = ()) -> Iterator[DeadLetter]:
        """Read dead letters.

        Args:
            ids: The ids of their messages; by default all.

        Raises:
            CorruptEntry: One can't be read: another version has written it.
        """
        keys = (
            key for key in self._objects.scan(self._prefix) if not ids or _message_id(key) in ids
        )
        while some := list(islice(keys, _AT_ONCE)):
            found = self._objects.get(some)
            for key in some:
                if key in found:
                    yield _parse(key, found[key])

    def remove(self, letter: DeadLetter) -> None:
        """Remove a dead letter; one that is gone is no error."""
        self._objects.delete([self._key(letter)])

    def send_again(
        self, webhook: ExecutionWebhook, ids: Collection[str] = (), *, timeout: float
    ) -> Iterator[tuple[DeadLetter, Answer]]:
        """Send dead letters again, with their ids and bodies, and remove what is accepted.

        It ends after one for which the receiver can't be reached, or is gone: the others would
        have to wait as long.

        Args:
            webhook: Where to.
            ids: Which; by default all.
            timeout: Seconds for each of the receiver's answers.
        """
        for letter in self.read(ids):
            answer = send(webhook, letter.message, timeout=timeout)
            if answer.verdict is Verdict.ACCEPTED:
                self.remove(letter)
            yield letter, answer
            if answer.verdict in (Verdict.LATER, Verdict.GONE):
                return

    def _key(self, letter: DeadLetter) -> str:
        return f"{self._prefix}{_sortable(letter.occurred_at)}-{letter.id}"


def count_dead_letters(objects: Objects) -> Counter[UUID]:
    """How many dead letters each webhook has, by the id of its block; by LIST alone."""
    found: Counter[UUID] = Counter()
    for key in objects.scan(_ROOT):
        _, webhook, kind, _ = key.split("/")
        if kind == "dead-letters":
            found[UUID(hex=webhook)] += 1
    return found


def _sortable(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%S.%f}Z"


def _message_id(key: str) -> str:
    return key.rpartition("-")[2]


def _parse(key: str, data: bytes) -> DeadLetter:
    try:
        fields = orjson.loads(data)
        if (version := fields.pop("v")) != _FORMAT:
            raise CorruptEntry(key, f"it has format {version}, and this version reads {_FORMAT}.")
        return DeadLetter.model_validate(fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptEntry(key, f"it is no dead letter ({error!r}).") from error
