"""The tags of the flow runs that executions are: by them they are found.

Prefect's labels can't be searched.
"""

from prefect.client.schemas.objects import FlowRun

EXECUTION = "execution"  # all of them have it
DELETING = "execution-deleting"  # somebody has asked for it to be deleted
RETENTION = "execution-retention"  # something of it is to be removed by and by
OUTSIDE = "execution-outside"  # an agent outside Prefect runs it
_AGENT, _TASK_TYPE = "agent:", "task-type:"


def tags_of(store: str | None) -> list[str]:
    """The tags that executions have, which are kept in the store of this name."""
    return [EXECUTION, *([] if store is None else [f"execution-store:{store}"])]


def agent_tag(agent_id: str) -> str:
    """The tag of the executions of an agent."""
    return f"{_AGENT}{agent_id}"


def task_type_tag(task_type: str) -> str:
    """The tag of the executions of a task type."""
    return f"{_TASK_TYPE}{task_type}"


def fork_tag(origin: str) -> str:
    """The tag of the executions that were forked from the one of this id."""
    return f"forked-from:{origin}"


def agent_of(run: FlowRun) -> str | None:
    """The agent that a run belongs to, by its tags."""
    return _tagged(run, _AGENT)


def task_type_of(run: FlowRun) -> str | None:
    """The task type of a run, by its tags."""
    return _tagged(run, _TASK_TYPE)


def _tagged(run: FlowRun, prefix: str) -> str | None:
    return next((tag.removeprefix(prefix) for tag in run.tags if tag.startswith(prefix)), None)
