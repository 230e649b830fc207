"""The work of `plain`, as an execution."""

from prefect import flow

from prefect_executions import execution


@flow
@execution
def durable(turns: int = 10) -> int:
    """Count, and save each turn."""
    run = execution.current(dict)
    run.state.setdefault("n", 0)
    while run.state["n"] < turns:
        run.state["n"] += 1
        run.checkpoint()
    n: int = run.state["n"]
    return n
