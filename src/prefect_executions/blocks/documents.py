"""Block documents in Prefect: reading those of a type, and updating some fields of one."""

from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.client.schemas.objects import BlockDocument
from pydantic import ValidationError

from prefect_executions.prefect.errors import prefect_errors


def documents_of(
    client: SyncPrefectClient, slug: str, *, include_secrets: bool = False
) -> list[BlockDocument]:
    """The block documents of a type; none when the type is not registered.

    Prefect returns all of them at once, whatever page is asked for.

    Args:
        client: A client of Prefect.
        slug: The slug of the block type.
        include_secrets: Whether secrets are included.

    Raises:
        PrefectUnavailable: Prefect does not respond, or refuses.
    """
    with prefect_errors():
        try:
            return client.read_block_documents_by_type(slug, include_secrets=include_secrets)
        except httpx.HTTPStatusError as error:
            # A 404 from something else, like a proxy, must not look like a type without documents.
            if error.response.status_code != httpx.codes.NOT_FOUND or slug in {
                known.slug for known in client.read_block_types()
            }:
                raise
            return []


def write(client: SyncPrefectClient, document_id: UUID, **fields: Any) -> None:
    """Update some fields of a block document; a person may be editing the others.

    The document is found by its id, so a deleted one does not come back, and another one of the
    same name is not changed.

    Raises:
        PrefectUnavailable: Prefect does not respond, or the block is gone.
    """
    update = BlockDocumentUpdate(data=fields, merge_existing_data=True)
    with prefect_errors():
        client.update_block_document(document_id, update)


def problem_of(error: ValidationError) -> str:
    """Which fields are wrong and why, without their values, which may be secrets."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
