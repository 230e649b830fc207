"""The block of a webhook."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.utilities.dispatch import lookup_type
from pydantic import ValidationError
from standardwebhooks import Webhook

from block_suite import BlockSuite
from prefect_executions.blocks.documents import write
from prefect_executions.blocks.webhook import ExecutionWebhook, new_secret
from prefect_executions.local import Stack


class TestExecutionWebhook(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return ExecutionWebhook


def test_the_block_type_is_known_by_its_slug() -> None:
    assert lookup_type(Block, "execution-webhook") is ExecutionWebhook


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "example.com/hook"}, "url"),
        ({"url": "http:///hook"}, "url"),
        ({"url": "http://0177.0.0.1/hook"}, "url"),
        ({"url": "http://１２７.0.0.1/hook"}, "url"),  # noqa: RUF001
        ({"url": "https://me:secret@example.com"}, "leave them out"),
        ({"secret": "whsec_c2hvcnQ="}, "secret"),
        ({"secret": "whsec_not base64, is it"}, "secret"),
        ({"secret": new_secret().removeprefix("whsec_")}, "secret"),
        ({"events": []}, "events"),
        ({"events": ["heartbeat"]}, "events"),
    ],
)
def test_a_wrong_field_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ExecutionWebhook.model_validate({"url": "https://example.com", **wrong})


def test_a_secret_is_made_and_not_shown() -> None:
    one, other = (ExecutionWebhook(url="https://example.com") for _ in range(2))

    secret = one.secret.get_secret_value()
    assert secret != other.secret.get_secret_value()
    assert Webhook(secret).sign("id", datetime.now(UTC), "{}").startswith("v1,")
    assert secret not in repr(one) + one.model_dump_json()


def test_saving_a_block_again_leaves_what_the_service_has_written(stack: Stack) -> None:
    name = f"hook-{uuid4().hex}"
    secret = new_secret()
    old = ExecutionWebhook.model_validate({"url": "https://a.example", "secret": secret})
    id_ = old.save(name)
    assert isinstance(id_, UUID)
    until, done = datetime(2026, 11, 24, tzinfo=UTC), uuid4()
    with get_client(sync_client=True) as client:
        write(client, id_, delivered_until=until.isoformat(), delivered=[done.hex])
    loaded = ExecutionWebhook.load(name)
    assert isinstance(loaded, ExecutionWebhook)
    assert loaded.delivered_until == until

    new = ExecutionWebhook.model_validate({"url": "https://b.example", "secret": secret})
    new.save(name, overwrite=True)

    loaded = ExecutionWebhook.load(name)
    assert isinstance(loaded, ExecutionWebhook)
    assert loaded.url == "https://b.example"
    assert loaded.secret.get_secret_value() == secret
    assert (loaded.delivered_until, loaded.delivered) == (until, [done])
    ExecutionWebhook.delete(name)
