"""What a receiver's answer means."""

import pytest

from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.local import free_ports
from prefect_executions.webhooks.message import Message
from prefect_executions.webhooks.sending import Verdict, send, verdict_on
from webhook_world import Receiver


@pytest.mark.parametrize(
    ("verdict", "statuses"),
    [
        (Verdict.ACCEPTED, [200, 202, 204, 299]),
        (Verdict.LATER, [408, 425, 429, 502, 503, 504]),
        (Verdict.REJECTED, [400, 401, 403, 404, 409, 413, 422, 499]),
        (Verdict.REFUSED, [100, 301, 302, 307, 500, 501, 505, 599]),
        (Verdict.GONE, [410]),
    ],
)
def test_each_answer_has_a_meaning(verdict: Verdict, statuses: list[int]) -> None:
    assert [verdict_on(status) for status in statuses] == [verdict] * len(statuses)


def test_a_message_is_sent_once_signed_and_answered(receiver: Receiver) -> None:
    webhook = ExecutionWebhook(url=receiver.url, allow_private_addresses=True)
    receiver.answers.append(422)

    answer = send(webhook, Message("evt_1", "{}"), timeout=5)

    assert (answer.verdict, answer.reason) == (Verdict.REJECTED, "422")
    [got] = receiver.rest()
    assert (got.id, got.body) == ("evt_1", b"{}")


def test_without_an_answer_it_may_be_taken_later() -> None:
    down = f"http://127.0.0.1:{free_ports(1)}"
    webhook = ExecutionWebhook(url=down, allow_private_addresses=True)

    answer = send(webhook, Message("evt_1", "{}"), timeout=5)

    assert answer.verdict is Verdict.LATER
    assert "ConnectError" in answer.reason
