"""The block types: a store of executions, a key of the REST service, and a webhook."""

from prefect_executions.blocks.key import ExecutionKey
from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.stores.store import ExecutionStore

__all__ = ["ExecutionKey", "ExecutionStore", "ExecutionWebhook"]

for _block in (ExecutionWebhook, ExecutionKey):
    _block.__module__ = __name__  # which steps record of an input
