"""Work as a plain Prefect flow."""

from prefect import flow, get_run_logger


@flow
def plain(turns: int = 10) -> int:
    """Count, and forget it."""
    n = 0
    for _ in range(turns):
        n += 1
    return n


@flow
def logged() -> None:
    """Log a line, at once."""
    get_run_logger().info("It has begun.")
