"""A Prefect server, an S3 server and a worker on this machine, and the demo that runs on them."""

from prefect_executions.local.stack import Process, S3Server, Stack, free_ports

__all__ = ["Process", "S3Server", "Stack", "free_ports"]
