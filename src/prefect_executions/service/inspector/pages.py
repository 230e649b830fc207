"""The pages as one application: which address leads to which page, and how errors are shown."""

from collections.abc import Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from prefect_executions.errors import ExecutionError
from prefect_executions.executions.executions import Executions
from prefect_executions.service.inspector.access import PageForbidden
from prefect_executions.service.inspector.checkpoints import CheckpointPages
from prefect_executions.service.inspector.comparing import ComparePages
from prefect_executions.service.inspector.control import ControlPages
from prefect_executions.service.inspector.editing import EditPages
from prefect_executions.service.inspector.execution import ExecutionPages
from prefect_executions.service.inspector.forking import ForkPages
from prefect_executions.service.inspector.listing import ListPages
from prefect_executions.service.inspector.rendering import STATIC, page
from prefect_executions.service.inspector.rolling_back import RollBackPages
from prefect_executions.service.problems import refusal_of, status_of


def inspector(
    executions: Executions,
    changed: Callable[[str], None],
    allowed: frozenset[str] | None = None,
) -> Starlette:
    """The pages as an ASGI application, to be mounted at `PATH`.

    Args:
        executions: The executions that they show.
        changed: Called with each execution that a page has changed.
        allowed: The only deployments that may be started, as `flow/deployment`; None for all.
    """
    lists = ListPages(executions, changed)
    execution = ExecutionPages(executions, changed)
    checkpoints = CheckpointPages(executions, changed)
    control = ControlPages(executions, changed)
    back = RollBackPages(executions, changed)
    fork = ForkPages(executions, changed, allowed)
    edit = EditPages(executions, changed)
    comparison = ComparePages(executions, changed)
    one = "/{execution_id}"
    return Starlette(
        routes=[
            Route("/", lists.list),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/compare", comparison.compare),
            Route(one, execution.show),
            Route(f"{one}/answer", execution.back, methods=["GET"]),
            Route(f"{one}/answer", execution.answer, methods=["POST"]),
            Route(f"{one}/pause", control.pause, methods=["POST"]),
            Route(f"{one}/resume", control.resume, methods=["POST"]),
            Route(f"{one}/cancel", control.cancel, methods=["POST"]),
            Route(f"{one}/delete", control.ask_to_delete),
            Route(f"{one}/delete", control.delete, methods=["POST"]),
            Route(f"{one}/fork", fork.ask),
            Route(f"{one}/fork", fork.fork, methods=["POST"]),
            Route(f"{one}/edit", edit.ask),
            Route(f"{one}/edit", edit.edit, methods=["POST"]),
            Route(f"{one}/diff", checkpoints.diff),
            Route(f"{one}/{{checkpoint_id}}", checkpoints.show),
            Route(f"{one}/{{checkpoint_id}}/state.json", checkpoints.state),
            Route(f"{one}/{{checkpoint_id}}/roll-back", back.ask),
            Route(f"{one}/{{checkpoint_id}}/roll-back", back.roll_back, methods=["POST"]),
        ],
        exception_handlers={
            ExecutionError: _on_execution_error,
            PageForbidden: _on_forbidden,
            HTTPStatus.NOT_FOUND.value: _on_not_found,
        },
    )


def _on_execution_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ExecutionError)
    return page("error.html", status_of(error), detail=refusal_of(error).detail)


def _on_forbidden(_: Request, error: Exception) -> Response:
    return page("error.html", HTTPStatus.FORBIDDEN, detail=f"Your key may not {error}.")


def _on_not_found(_: Request, __: Exception) -> Response:
    return page("error.html", HTTPStatus.NOT_FOUND, detail="There is no such page.")
