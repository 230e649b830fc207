"""The tags of flow runs, by which executions are found: Prefect's labels can't be searched."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from prefect_executions.ids import execution_id
from prefect_executions.prefect.errors import prefect_errors

EXECUTION = "execution"  # every execution
DELETING = "execution-deleting"  # it is to be deleted
RETENTION = "execution-retention"  # old checkpoints, or all of it, are to be removed in time
OUTSIDE = "execution-outside"  # an agent outside Prefect runs it
_AGENT, _TASK_TYPE, _DEPLOYMENT = "agent:", "task-type:", "execution-deployment:"
_FORK = "forked-from:"
_IMPORTED = "imported-from:"
_CHILD, _AROUND = "child-of:", "execution-around:"


def tags_of(store: str | None) -> list[str]:
    """The tags of all executions that are kept in the store of this name."""
    return [EXECUTION, *([] if store is None else [f"execution-store:{store}"])]


def agent_tag(agent_id: str) -> str:
    """The tag of the executions of an agent."""
    return f"{_AGENT}{agent_id}"


def task_type_tag(task_type: str) -> str:
    """The tag of the executions of a task type."""
    return f"{_TASK_TYPE}{task_type}"


def deployment_tag(deployment: str) -> str:
    """The tag of the executions of a deployment, which is given as `flow/deployment`."""
    return f"{_DEPLOYMENT}{deployment}"


def fork_tag(origin: str) -> str:
    """The tag of the executions that were forked from the one with this id."""
    return f"{_FORK}{origin}"


def origin_of(run: FlowRun) -> str | None:
    """The execution that a run's execution was forked from, by its tags."""
    return _tagged(run, _FORK)


def imported_tag(origin: str) -> str:
    """The tag of an execution that was imported, and had this id where it was exported."""
    return f"{_IMPORTED}{origin}"


def is_imported(run: FlowRun) -> bool:
    """Whether the execution of a run was imported."""
    return _tagged(run, _IMPORTED) is not None


def child_tag(parent: str) -> str:
    """The tag of the executions that were called in the one with this id."""
    return f"{_CHILD}{parent}"


def around_tag(execution_id: str) -> str:
    """The tag of the runs that only stand around the own run of the execution with this id."""
    return f"{_AROUND}{execution_id}"


def parent_of(run: FlowRun) -> str | None:
    """The execution that a run's execution was called in, by its tags."""
    return _tagged(run, _CHILD)


def is_around(run: FlowRun) -> bool:
    """Whether a run only stands around that of an execution."""
    return _tagged(run, _AROUND) is not None


def inherited_tags(parent: FlowRun) -> list[str]:
    """The tags that an execution has from the one that it was called in."""
    agent_id, deployment = agent_of(parent), deployment_of(parent)
    tags = [child_tag(execution_id(parent.id))]
    tags += [] if agent_id is None else [agent_tag(agent_id)]
    return tags if deployment is None else [*tags, deployment_tag(deployment)]


def agent_of(run: FlowRun) -> str | None:
    """The agent that a run belongs to, by its tags."""
    return _tagged(run, _AGENT)


def deployment_of(run: FlowRun) -> str | None:
    """The deployment of a run, or of the run around it, as `flow/deployment`, by its tags."""
    return _tagged(run, _DEPLOYMENT)


def task_type_of(run: FlowRun) -> str | None:
    """The task type of a run, by its tags."""
    return _tagged(run, _TASK_TYPE)


def add_tags(client: SyncPrefectClient, run: FlowRun, *tags: str) -> None:
    """Add to a run in Prefect those of the tags that it lacks.

    Raises:
        PrefectUnavailable: Prefect does not answer.
        ExecutionNotFound: Prefect does not know the run.
    """
    if missing := [tag for tag in tags if tag not in run.tags]:
        with prefect_errors(run.id):
            client.update_flow_run(run.id, tags=[*run.tags, *missing])


def _tagged(run: FlowRun, prefix: str) -> str | None:
    return next((tag.removeprefix(prefix) for tag in run.tags if tag.startswith(prefix)), None)
