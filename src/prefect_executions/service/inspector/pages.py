"""The pages: a list of executions, one execution, a checkpoint, and actions on them."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import ValidationError
from rich.filesize import decimal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from prefect_executions.blocks.key import Caller, Permission
from prefect_executions.errors import ExecutionError
from prefect_executions.executions.executions import Executions
from prefect_executions.models import ExecutionFilter, Status
from prefect_executions.prefect.run_page import duration, progress
from prefect_executions.prefect.transitions import read_states
from prefect_executions.service.dependencies import caller_of
from prefect_executions.service.inspector.timeline import LANES, WIDTH, timeline
from prefect_executions.service.problems import refusal_of, status_of

PATH = "/ui"
OPEN_PATHS = [f"{PATH}/static/{name}" for name in ("style.css", "live.js", "icon.svg")]
LISTED = 50
CHECKPOINTS = 100
ENTRIES = 300  # of the log, for the timeline
SHOWN = 256 << 10  # characters of a state
COMPARED = 20_000  # lines of a state in a comparison, at most

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def _when(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "-"


def _pretty(state: Any) -> str:
    return orjson.dumps(state, option=orjson.OPT_INDENT_2).decode()


_templates = Environment(
    loader=PackageLoader("prefect_executions.service.inspector"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"when": _when, "size": decimal, "duration": duration}
_templates.globals |= {"root": PATH, "statuses": [*Status], "width": WIDTH}


def page(template: str, status: HTTPStatus = HTTPStatus.OK, **facts: Any) -> HTMLResponse:
    """A page.

    Args:
        template: The name of its template.
        status: The HTTP status.
        facts: The variables of the template.
    """
    text = _templates.get_template(template).render(**facts)
    return HTMLResponse(text, status, headers={"Content-Security-Policy": _POLICY})


def inspector(executions: Executions, changed: Callable[[str], None]) -> Starlette:
    """The pages as an ASGI application, to be mounted at `PATH`.

    Args:
        executions: The executions that they show.
        changed: Called with each execution that a page has changed.
    """
    pages = _Pages(executions, changed)
    one = "/{execution_id}"
    return Starlette(
        routes=[
            Route("/", pages.list),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
            Route(one, pages.show),
            Route(f"{one}/pause", pages.pause, methods=["POST"]),
            Route(f"{one}/resume", pages.resume, methods=["POST"]),
            Route(f"{one}/delete", pages.ask_to_delete),
            Route(f"{one}/delete", pages.delete, methods=["POST"]),
            Route(f"{one}/diff", pages.diff),
            Route(f"{one}/{{checkpoint_id}}", pages.checkpoint),
            Route(f"{one}/{{checkpoint_id}}/state.json", pages.state),
        ],
        exception_handlers={
            ExecutionError: _on_execution_error,
            _Forbidden: _on_forbidden,
            HTTPStatus.NOT_FOUND.value: _on_not_found,
        },
    )


class _Forbidden(Exception):
    """The key does not have the permission that a page requires."""


@dataclass(frozen=True)
class _Pages:
    executions: Executions
    changed: Callable[[str], None]

    def _seen(self, request: Request, permission: Permission = Permission.READ) -> Executions:
        caller = caller_of(request.scope)
        if permission not in caller.permissions:
            raise _Forbidden(permission)
        return self.executions.seen_by(caller.agents, caller.deployments)

    # These are not async, so Starlette runs them in threads.

    def list(self, request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        cursor = asked.pop("cursor", None)
        try:
            wanted = {**asked, **({"status": [asked["status"]]} if "status" in asked else {})}
            filter_ = ExecutionFilter.model_validate(wanted)
        except ValidationError as error:
            detail = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
            return page("error.html", HTTPStatus.UNPROCESSABLE_ENTITY, detail=detail)
        found = self._seen(request).search(filter_, limit=LISTED, cursor=cursor)
        older = found.next_cursor and urlencode({**asked, "cursor": found.next_cursor})
        return page("list.html", items=found.items, asked=asked, older=older, first=not cursor)

    def show(self, request: Request) -> Response:
        seen = self._seen(request)
        id_ = request.path_params["execution_id"]
        execution = seen.get(id_, checkpoints=CHECKPOINTS, states=False)
        entries = seen.log(id_).outlines(ENTRIES)
        states = read_states(seen.flow_runs.client, execution.prefect.flow_run_id)
        known = progress(execution.state)
        return page(
            "execution.html",
            execution=execution,
            may=_may(caller_of(request.scope)),
            drawing=timeline(states, entries, seen.clock()),
            is_cut=len(entries) == ENTRIES or execution.prefect.attempt > LANES,
            progress=known,
            state=_cut(_pretty(execution.state)),
            live=not execution.status.ended,
        )

    def checkpoint(self, request: Request) -> Response:
        seen = self._seen(request)
        id_, name = request.path_params["execution_id"], request.path_params["checkpoint_id"]
        checkpoint = seen.read_checkpoint(id_, name)
        before = seen.checkpoints(id_, limit=1, cursor=name).items
        return page(
            "checkpoint.html",
            execution=seen.get(id_, checkpoints=0, states=False),
            may=_may(caller_of(request.scope)),
            checkpoint=checkpoint,
            before=before[0] if before else None,
            state=_cut(_pretty(checkpoint.state)),
        )

    def state(self, request: Request) -> Response:
        id_, name = request.path_params["execution_id"], request.path_params["checkpoint_id"]
        checkpoint = self._seen(request).read_checkpoint(id_, name)
        return Response(
            orjson.dumps(checkpoint.state),
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{checkpoint.id}.json"'},
        )

    def diff(self, request: Request) -> Response:
        seen, id_ = self._seen(request), request.path_params["execution_id"]
        names = [request.query_params.get(name, "") for name in ("from", "to")]
        one, other = (seen.read_checkpoint(id_, name) for name in names)
        return page(
            "diff.html",
            execution=seen.get(id_, checkpoints=0, states=False),
            one=one,
            other=other,
            lines=_changes(_pretty(one.state), _pretty(other.state)),
        )

    def pause(self, request: Request) -> Response:
        id_ = request.path_params["execution_id"]
        self._seen(request, Permission.WRITE).pause(id_, reason="Paused in the inspector")
        return self._done(id_)

    def resume(self, request: Request) -> Response:
        id_ = request.path_params["execution_id"]
        checkpoint = request.query_params.get("checkpoint") or None
        self._seen(request, Permission.WRITE).resume(id_, checkpoint_id=checkpoint)
        return self._done(id_)

    def ask_to_delete(self, request: Request) -> Response:
        id_ = request.path_params["execution_id"]
        seen = self._seen(request, Permission.DELETE)
        return page("delete.html", execution=seen.get(id_, checkpoints=0, states=False))

    def delete(self, request: Request) -> Response:
        id_ = request.path_params["execution_id"]
        self._seen(request, Permission.DELETE).delete(id_)
        return RedirectResponse(PATH, HTTPStatus.SEE_OTHER)

    def _done(self, execution_id: str) -> Response:
        self.changed(execution_id)
        return RedirectResponse(f"{PATH}/{execution_id}", HTTPStatus.SEE_OTHER)


def _may(caller: Caller) -> dict[str, bool]:
    return {permission.value: permission in caller.permissions for permission in Permission}


def _cut(text: str) -> tuple[str, bool]:
    return text[:SHOWN], len(text) > SHOWN


def _changes(before: str, after: str) -> list[tuple[str, str]] | None:
    """The lines that differ and some around them, with their kinds; None when too many."""
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > COMPARED:
        return None
    kinds = {"+": "new", "-": "old", "@": "where"}
    lines = list(difflib.unified_diff(old, new, lineterm="", n=3))[2:]
    return [(kinds.get(line[:1], "same"), line) for line in lines]


def _on_execution_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ExecutionError)
    return page("error.html", status_of(error), detail=refusal_of(error).detail)


def _on_forbidden(_: Request, error: Exception) -> Response:
    return page("error.html", HTTPStatus.FORBIDDEN, detail=f"Your key may not {error}.")


def _on_not_found(_: Request, __: Exception) -> Response:
    return page("error.html", HTTPStatus.NOT_FOUND, detail="There is no such page.")
