"""Immutable objects: bytes under keys, in memory, in an S3 bucket, or behind a cache."""

from prefect_executions.storage.cache import CachedObjects
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.storage.probe import probe

__all__ = ["CachedObjects", "MemoryObjects", "Objects", "probe"]
