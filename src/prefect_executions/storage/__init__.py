"""Bytes under keys: five verbs that S3 has, in memory, in a bucket, and behind a cache."""

from prefect_executions.storage.objects import MemoryObjects, Objects

__all__ = ["MemoryObjects", "Objects"]
