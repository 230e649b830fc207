"""The block types: where executions are kept, the keys of the service, and webhooks."""

from prefect_executions.blocks.key import ExecutionKey
from prefect_executions.blocks.store import ExecutionStore
from prefect_executions.blocks.webhook import ExecutionWebhook

__all__ = ["ExecutionKey", "ExecutionStore", "ExecutionWebhook"]

for _block in (ExecutionStore, ExecutionWebhook, ExecutionKey):
    _block.__module__ = __name__  # so that a call whose input is one stays the same call
