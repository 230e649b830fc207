"""The page of one execution: what it asks, what happened to it, and what it has come to."""

import re
from http import HTTPStatus
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from prefect_executions.blocks.key import Permission
from prefect_executions.config import Status
from prefect_executions.errors import AnswerError
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id as id_of
from prefect_executions.log.entry import Kind
from prefect_executions.prefect.pauses import awaited_child
from prefect_executions.prefect.run_page import progress
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.transitions import read_states
from prefect_executions.service.dependencies import caller_of
from prefect_executions.service.inspector.access import Pages, may, posted
from prefect_executions.service.inspector.asking import Asked, asked_by
from prefect_executions.service.inspector.fields import Posted
from prefect_executions.service.inspector.journal import KINDS, journal_page
from prefect_executions.service.inspector.rendering import PATH, page
from prefect_executions.service.inspector.states import shown_state
from prefect_executions.service.inspector.timeline import LANES, timeline

CHECKPOINTS = 100
NUMBER = re.compile("[0-9]{1,9}")  # of an entry
ENTRIES = 300  # of the log, for the timeline
TABS = {
    "journal": "Journal",
    "state": "State",
    "checkpoints": "Checkpoints",
    "result": "Result",
    "parameters": "Parameters",
    "config": "Config",
    "versions": "Versions and cost",
}


class ExecutionPages(Pages):
    """The page of one execution, and the answer that is given on it."""

    def show(self, request: Request) -> Response:
        """The page."""
        seen, id_ = self.seen(request), request.path_params["execution_id"]
        return self._page(request, seen, id_, None)

    def back(self, request: Request) -> Response:
        """Lead to the page from the address of an answer that was refused."""
        return RedirectResponse(f"{PATH}/{request.path_params['execution_id']}")

    async def answer(self, request: Request) -> Response:
        """Answer what the execution asks, and lead back to its page."""
        return await to_thread.run_sync(self._answer, request, await posted(request))

    def _answer(self, request: Request, given: Posted) -> Response:
        seen = self.seen(request, Permission.WRITE)
        id_ = request.path_params["execution_id"]
        asked = asked_by(seen, id_, given)
        if asked is None or given.get("question") != [asked.question.id]:
            refusal = "That question is not asked any more."
            return self._page(request, seen, id_, None, refusal, HTTPStatus.CONFLICT)
        if "more" in given:
            return self._page(request, seen, id_, asked)
        answer, refusal = asked.answer(), ""
        if not asked.refused:
            try:
                seen.resume(id_, answer=answer, by=caller_of(request.scope).name)
            except AnswerError as error:
                refusal = f"{error}"
            else:
                return self.done(id_)
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return self._page(request, seen, id_, asked, refusal, status)

    def _page(
        self,
        request: Request,
        seen: Executions,
        id_: str,
        asked: Asked | None,
        refusal: str = "",
        status: HTTPStatus = HTTPStatus.OK,
    ) -> Response:
        tab = request.query_params.get("tab", "")
        tab = tab if tab in TABS else next(iter(TABS))
        execution = seen.get(id_, checkpoints=CHECKPOINTS, states=False)
        is_paused = execution.status is Status.PAUSED
        entries = seen.log(id_).outlines(ENTRIES)
        states = read_states(seen.flow_runs.client, execution.prefect.flow_run_id)
        return page(
            "execution.html",
            status,
            execution=execution,
            may=may(request),
            asked=asked or (asked_by(seen, id_) if is_paused else None),
            awaited=_awaited(seen, id_) if is_paused else None,
            refusal=refusal,
            drawing=timeline(states, entries, seen.clock()),
            is_cut=len(entries) == ENTRIES or execution.prefect.attempt > LANES,
            progress=progress(execution.state),
            tab=tab,
            tabs=TABS,
            facts=_facts(request, seen, id_, tab),
            # What was typed and refused is not what the address shows.
            live=not execution.status.ended and request.method == "GET",
        )


def _awaited(seen: Executions, id_: str) -> str | None:
    """The execution called in a paused one that it waits for."""
    child = awaited_child(state_of(seen.run(id_)))
    return None if child is None else id_of(child)


def _facts(request: Request, seen: Executions, id_: str, tab: str) -> dict[str, Any]:
    """What a tab shows besides the execution."""
    if tab == "journal":
        kind = request.query_params.get("kind", "")
        kind = kind if kind in KINDS else ""
        asked = request.query_params.get("until", "")
        until = int(asked) if NUMBER.fullmatch(asked) else None
        shown = journal_page(seen, id_, until=until, kind=kind)
        return {"page": shown, "kinds": KINDS, "until": until}
    if tab == "state":
        return {"shown": shown_state(seen, id_, request.query_params)}
    if tab == "parameters":
        return {"parameters": seen.run(id_).parameters}
    if tab == "versions":
        begun = [entry for entry in seen.log(id_).outlines(ENTRIES) if entry.kind is Kind.ATTEMPT]
        return {"attempts": begun[::-1], "cost": seen.cost(id_)}
    return {}
