"""Work as a plain Prefect flow."""

from prefect import flow


@flow
def plain(turns: int = 10) -> int:
    """Count, and forget it."""
    n = 0
    for _ in range(turns):
        n += 1
    return n
