"""What the service and the supervisor tell those who run them: spans, and lines of the log.

Spans go where OpenTelemetry is configured, as for Prefect's own, and nowhere otherwise.
"""

import logging

from opentelemetry import trace

tracer = trace.get_tracer("prefect_executions")


def show_log() -> None:
    """Show what is logged as information, too, unless somebody has set a level.

    Prefect's logging only shows warnings of what is not Prefect's.
    """
    log = logging.getLogger("prefect_executions")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
