"""The webhooks in Prefect: reading their blocks."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument
from pydantic import ValidationError

from prefect_executions.blocks.documents import documents_of, problem_of, write
from prefect_executions.blocks.webhook import ExecutionWebhook, new_secret

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hook:
    """A webhook, and the document that it is saved in."""

    document: BlockDocument
    webhook: ExecutionWebhook


def read_hooks(client: SyncPrefectClient) -> Iterator[Hook]:
    """All webhooks in Prefect; one that is not valid is logged, and left out.

    One that was saved in the UI without a secret gets one.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    slug = ExecutionWebhook.get_block_type_slug()
    for document in documents_of(client, slug, include_secrets=True):
        try:
            yield Hook(document, _with_secret(client, document))
        except ValidationError as error:
            logger.error("Webhook %r is not valid: %s", document.name, problem_of(error))


def _with_secret(client: SyncPrefectClient, document: BlockDocument) -> ExecutionWebhook:
    data = {name: value for name, value in document.data.items() if value is not None}
    if not data.get("secret"):
        data["secret"] = new_secret()
        ExecutionWebhook.model_validate(data)
        write(client, document.id, secret=data["secret"])
    return ExecutionWebhook.model_validate(data)
