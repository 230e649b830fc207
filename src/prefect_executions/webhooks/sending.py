"""Sending one message to a webhook once, and what its receiver's answer means."""

from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.webhooks.message import Message
from prefect_executions.webhooks.post import Undelivered, is_public, post

# The receiver can't take messages now; that says nothing about this one.
_LATER = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


class Verdict(Enum):
    """What a receiver's answer means for the message."""

    ACCEPTED = auto()
    LATER = auto()  # no answer, or one that says: not now
    REFUSED = auto()  # it failed with this message
    REJECTED = auto()  # it will hardly ever take this message
    GONE = auto()  # the receiver wants no more messages


@dataclass(frozen=True)
class Answer:
    """What has become of a message that was sent once.

    Args:
        verdict: What the answer means.
        reason: The status of the answer, or why there was none.
    """

    verdict: Verdict
    reason: str


def send(webhook: ExecutionWebhook, message: Message, *, timeout: float) -> Answer:
    """Post a message once, signed.

    Args:
        webhook: Where to.
        message: The message.
        timeout: Seconds for the receiver's answer.
    """
    try:
        status = post(
            webhook.url,
            message_id=message.id,
            body=message.body,
            secret=webhook.secret.get_secret_value(),
            timeout=timeout,
            may_reach=(lambda _: True) if webhook.allow_private_addresses else is_public,
        )
    except Undelivered as error:
        return Answer(Verdict.LATER, str(error))
    return Answer(verdict_on(status), str(status))


def verdict_on(status: int) -> Verdict:
    """What an answer with this status means."""
    if 200 <= status < 300:
        return Verdict.ACCEPTED
    if status == HTTPStatus.GONE:
        return Verdict.GONE
    if status in _LATER:
        return Verdict.LATER
    return Verdict.REJECTED if 400 <= status < 500 else Verdict.REFUSED
