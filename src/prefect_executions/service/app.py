"""The REST routes: the six documented endpoints, each a line or two over `Executions`."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from prefect_executions.executions import Executions
from prefect_executions.models import (
    Checkpoint,
    Description,
    Execution,
    ExecutionConfig,
    Label,
    Name,
    OnTimeout,
    Resumed,
    Status,
)
from prefect_executions.service import problems
from prefect_executions.service.guards import SECURITY, BodyLimit, KeyGuard

DEFAULT_CHECKPOINTS = 100


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewExecution(_Body):
    """What `POST /v1/execution` takes."""

    name: Name = Field(description="What it is called.")
    deployment: str = Field(
        min_length=1,
        max_length=500,
        description="`flow-name/deployment-name`, or a deployment's id: what runs it.",
    )
    parameters: dict[str, Any] = Field({}, description="The flow's parameters.")
    description: Description | None = Field(None, description="What it is for.")
    agent_id: Name | None = Field(None, description="The agent that it belongs to.")
    task_type: Name | None = Field(None, description="The kind of task.")
    state: Any = Field(default_factory=dict, description="The first state; by default `{}`.")
    config: ExecutionConfig = Field(ExecutionConfig(), description="How it is run.")


class NewCheckpoint(_Body):
    """What `PUT /v1/execution/{id}/checkpoint` takes."""

    state: Any = Field(description="The state to save.")
    label: Label | None = Field(None, description="What people see in the list of checkpoints.")


class Saved(BaseModel):
    """What `PUT /v1/execution/{id}/checkpoint` answers."""

    checkpoint: Checkpoint
    status: Status = Field(description="The execution's status: paused means stop.")


class Pause(_Body):
    """What `POST /v1/execution/{id}/pause` takes."""

    reason: Description | None = Field(None, description="Why; the Prefect UI shows it.")
    until: AwareDatetime | None = Field(
        None, description="When the pause ends by itself, within a minute; by default never."
    )
    on_timeout: OnTimeout = Field(
        OnTimeout.RESUME, description="What becomes of the execution then."
    )


class Resume(_Body):
    """What `POST /v1/execution/{id}/resume` takes."""

    checkpoint_id: str | None = Field(
        None,
        description="Roll back to this checkpoint; `ckpt_000000` starts over. By default the "
        "newest.",
    )
    input: dict[str, Any] | None = Field(
        None, description="The answer to what the flow has asked with `run.ask`."
    )


def create_app(
    executions: Executions, *, api_key: str | None, max_body_bytes: int = 16 << 20
) -> FastAPI:
    """The ASGI application.

    Args:
        executions: What it serves.
        api_key: What callers must send; None lets everybody in.
        max_body_bytes: A larger body is refused.
    """
    app = FastAPI(
        title="prefect-executions",
        description="Durable executions for long-running agent tasks on Prefect.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
    app.add_middleware(KeyGuard, api_key=api_key)  # the last one added comes first
    app.include_router(_routes(executions), dependencies=SECURITY)

    @app.get("/health", tags=["service"])
    def health() -> dict[Literal["status"], Literal["ok"]]:
        """Answer when the service is up; asks neither Prefect nor the store."""
        return {"status": "ok"}

    return app


def _routes(executions: Executions) -> APIRouter:
    router = APIRouter(prefix="/v1/execution", tags=["executions"])

    @router.post("", status_code=HTTPStatus.CREATED)
    def create(new: NewExecution, response: Response) -> Execution:
        """Create an execution: a worker starts the deployment's flow."""
        execution = executions.create(**dict(new))
        response.headers["Location"] = f"{router.prefix}/{execution.id}"
        return execution

    @router.get("/{execution_id}")
    def get(
        execution_id: str,
        checkpoints: Annotated[
            Annotated[int, Field(ge=0)] | Literal["all", "none"],
            Query(description="How many of the newest: a number, `all` or `none`."),
        ] = DEFAULT_CHECKPOINTS,
        states: Annotated[
            bool, Query(description="Whether checkpoints come with their states.")
        ] = True,
    ) -> Execution:
        """Read an execution, with its newest checkpoints."""
        count = {"all": None, "none": 0}.get(f"{checkpoints}", checkpoints)
        return executions.get(
            execution_id, checkpoints=count if count is None else int(count), states=states
        )

    @router.put("/{execution_id}/checkpoint", status_code=HTTPStatus.CREATED)
    def checkpoint(execution_id: str, new: NewCheckpoint) -> Saved:
        """Save a checkpoint by hand."""
        saved, status = executions.checkpoint(execution_id, state=new.state, label=new.label)
        return Saved(checkpoint=saved, status=status)

    @router.post("/{execution_id}/pause", status_code=HTTPStatus.ACCEPTED)
    def pause(execution_id: str, response: Response, body: Pause | None = None) -> Execution:
        """Pause an execution: its process ends at its next checkpoint. 200 when it was paused."""
        execution, changed = executions.pause(execution_id, **dict(body or Pause()))
        if not changed:
            response.status_code = HTTPStatus.OK
        return execution

    @router.post("/{execution_id}/resume", status_code=HTTPStatus.ACCEPTED)
    def resume(execution_id: str, body: Resume | None = None) -> Resumed:
        """Resume an execution that is paused, failed or terminated, from any checkpoint."""
        body = body or Resume()
        return executions.resume(execution_id, checkpoint_id=body.checkpoint_id, answer=body.input)

    @router.delete("/{execution_id}", status_code=HTTPStatus.NO_CONTENT)
    def delete(execution_id: str, response: Response) -> None:
        """Delete an execution; 202 when its process needs longer to end: repeat the request."""
        if not executions.delete(execution_id):
            response.status_code = HTTPStatus.ACCEPTED

    return router
