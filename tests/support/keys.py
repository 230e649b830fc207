"""API keys in a real Prefect, for tests."""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate

from prefect_executions.blocks.documents import documents_of
from prefect_executions.blocks.key import ExecutionKey, Permission

READ = [Permission.READ]
UNKNOWN = "pxk_" + "x" * 43


def remove_keys(client: SyncPrefectClient) -> None:
    documents = documents_of(client, "execution-key")
    if len(documents) > 20:  # one by one takes long; deleting their type deletes all
        client.delete_block_type(documents[0].block_type_id)
        ExecutionKey.register_type_and_schema(_sync=True)  # type: ignore[call-arg]
        return
    for document in documents:
        client.delete_block_document(document.id)


def put_key(client: SyncPrefectClient, name: str, data: dict[str, Any]) -> UUID:
    """Create a block document without validation, as the UI or a script may do."""
    ExecutionKey.register_type_and_schema(_sync=True)  # type: ignore[call-arg]
    assert ExecutionKey._block_type_id is not None
    new = BlockDocumentCreate(
        name=name,
        data=data,
        block_type_id=ExecutionKey._block_type_id,
        block_schema_id=ExecutionKey._block_schema_id,
    )
    return client.create_block_document(new).id
