"""The block type of a webhook: which notifications of executions are sent, and where to."""

import base64
import binascii
import secrets
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect.blocks.core import Block
from pydantic import (
    AwareDatetime,
    Field,
    SecretStr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)  # according to Standard Webhooks
_WRITTEN = ("delivered_until", "delivered")  # only by the service


class ExecutionWebhook(Block):
    """A receiver of signed notifications: status changes and checkpoints of executions.

    Attributes:
        url: The URL that they are posted to.
        secret: The secret that they are signed with; made when left out.
        events: What to notify of.
        store: Only executions in the Execution Store block of this name.
        agents: Only executions of these agents.
        allow_private_addresses: Whether to post to loopback and private networks, too.
        enabled: Whether anything is posted.
        delivered_until: Written by the service: the time of the newest event it has finished.
        delivered: Written by the service: the events it has delivered last.

    Example:
        Save a webhook, give its secret to the receiver, and load it:
        ```python
        from prefect_executions.blocks import ExecutionWebhook

        webhook = ExecutionWebhook(url="https://example.com/executions")
        webhook.save("my-receiver")
        print(webhook.secret.get_secret_value())

        webhook = ExecutionWebhook.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Execution Webhook"
    _block_type_slug = "execution-webhook"
    _description = "A receiver of signed notifications about durable executions."
    _logo_url = "https://cdn.sanity.io/images/3ugk85nk/production/d74b16fe84ce626345adf235a47008fea2869a60-225x225.png"  # type: ignore[assignment]
    _documentation_url = "https://www.standardwebhooks.com"  # type: ignore[assignment]

    url: str = Field(
        title="URL",
        max_length=2000,
        description="Where notifications are posted to: http or https, without user and password.",
    )
    secret: SecretStr = Field(
        default_factory=lambda: SecretStr(new_secret()),
        title="Secret",
        description=(
            "What notifications are signed with, in the format of Standard Webhooks: whsec_ and 24 "
            "to 64 bytes in base64. Made when left out."
        ),
    )
    events: list[Literal["status", "checkpoint"]] = Field(
        default=["status"],
        min_length=1,
        title="Events",
        description="What to notify of: status changes, checkpoints.",
    )
    store: str = Field(
        default="default",
        title="Store",
        description="Only executions that are kept in the Execution Store block of this name.",
    )
    agents: list[str] | None = Field(
        default=None,
        title="Agents",
        description="Only executions of these agents. By default all executions.",
    )
    allow_private_addresses: bool = Field(
        default=False,
        title="Allow Private Addresses",
        description=(
            "Post to loopback, private and link-local addresses, too. Whoever may edit this block "
            "can then reach what the service can reach."
        ),
    )
    enabled: bool = Field(
        default=True,
        title="Enabled",
        description="Whether anything is posted. A receiver that answers 410 turns it off.",
    )
    delivered_until: AwareDatetime | None = Field(
        default=None,
        title="Delivered Until",
        description="Written by the service: when the newest event occurred that it is done with.",
    )
    delivered: list[UUID] = Field(
        default=[],
        title="Delivered",
        description="Written by the service: what it has delivered last, to deliver it once.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ValueError(f"not a URL: {error}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("give an http or https URL")
        if parsed.userinfo:
            raise ValueError("a user and a password in a URL are not sent; leave them out")
        return url

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value()
        try:
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not text.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
            raise ValueError("give whsec_ and 24 to 64 random bytes in base64")
        return secret

    @model_serializer(mode="wrap")
    def ser_model(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        """Serialize the block; when it is saved, without what the service writes.

        A block that is saved again is merged into the document, and must not reset its deliveries.
        """
        data = super().ser_model(handler, info)
        if isinstance(data, dict) and info.context and info.context.get("include_secrets"):
            for name in _WRITTEN:
                data.pop(name, None)
        return data

    @property
    def name(self) -> str | None:
        """The name that the block is saved under, or None when it is not saved."""
        return self._block_document_name


def new_secret() -> str:
    """Make a random secret in the format of Standard Webhooks."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
