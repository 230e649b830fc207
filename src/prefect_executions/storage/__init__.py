"""Immutable objects: bytes under keys, in memory, a directory or a bucket, or behind a cache."""

from prefect_executions.storage.cache import CachedObjects
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.storage.probe import probe

__all__ = ["CachedObjects", "DirectoryObjects", "MemoryObjects", "Objects", "probe"]
