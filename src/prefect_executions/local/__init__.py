"""A Prefect server, an S3 server and a worker on this machine, and the demo that runs on them."""

from prefect_executions.local.process import Process, free_ports
from prefect_executions.local.stack import S3Server, Stack

__all__ = ["Process", "S3Server", "Stack", "free_ports"]
