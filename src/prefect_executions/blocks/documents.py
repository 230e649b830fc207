"""Block documents in Prefect: all of a type, what is wrong with one, and writing a part of it."""

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
    """The block documents of a type; none where nobody has registered the type.

    Prefect gives all of them at once, whatever page is asked for.

    Args:
        client: Prefect's.
        slug: Of the type.
        include_secrets: Whether they come with their secrets.

    Raises:
        PrefectUnavailable: Prefect does not answer, or refuses.
    """
    with prefect_errors():
        try:
            return client.read_block_documents_by_type(slug, include_secrets=include_secrets)
        except httpx.HTTPStatusError as error:
            # A 404 of something else must not look like a type without documents.
            if error.response.status_code != httpx.codes.NOT_FOUND or slug in {
                known.slug for known in client.read_block_types()
            }:
                raise
            return []


def write(client: SyncPrefectClient, document_id: UUID, **fields: Any) -> None:
    """Write fields of a block document and leave the others, which a person may be editing.

    It goes by its id: one that was deleted meanwhile does not come back, nor does another of the
    same name get what is not its own.

    Raises:
        PrefectUnavailable: Prefect did not answer, or the block is gone.
    """
    update = BlockDocumentUpdate(data=fields, merge_existing_data=True)
    with prefect_errors():
        client.update_block_document(document_id, update)


def problem_of(error: ValidationError) -> str:
    """Which fields are wrong, but not what stands in them: somebody may put a secret there."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
