"""OpenTelemetry spans and log lines of the service and the supervisor.

Spans are exported when OpenTelemetry is configured, like Prefect's own.
"""

import logging

from opentelemetry import trace

tracer = trace.get_tracer("prefect_executions")


def show_log() -> None:
    """Show our log lines from level INFO, unless a level is set.

    Prefect only shows warnings of loggers that are not its own.
    """
    log = logging.getLogger("prefect_executions")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
