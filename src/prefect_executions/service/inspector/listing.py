"""The page that lists executions: those that need an answer first."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from prefect_executions.config import Status
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.views import summary_of
from prefect_executions.models import ExecutionFilter, Summary
from prefect_executions.prefect.artifacts import PageFacts, page_facts
from prefect_executions.prefect.pauses import is_question
from prefect_executions.prefect.states import state_of
from prefect_executions.prefect.tags import origin_of
from prefect_executions.service.inspector.access import Pages, may
from prefect_executions.service.inspector.rendering import page

LISTED = 50
ASKING = 20  # of those that need an answer, on top
PAUSED = 100  # newest among which they are looked for


@dataclass(frozen=True)
class ListedRow:
    """An execution in the list.

    Args:
        summary: What Prefect knows of it.
        asks: Whether it needs an answer.
        origin: The execution that it was forked from.
        facts: What its page has shown last; None where it has none yet.
    """

    summary: Summary
    asks: bool
    origin: str | None
    facts: PageFacts | None


class ListPages(Pages):
    """The page that lists executions."""

    def list(self, request: Request) -> Response:
        """The page; the query of its address is the filter."""
        asked = {name: value for name, value in request.query_params.items() if value}
        cursor = asked.pop("cursor", None)
        try:
            wanted = {**asked, **({"status": [asked["status"]]} if "status" in asked else {})}
            filter_ = ExecutionFilter.model_validate(wanted)
        except ValidationError as error:
            detail = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
            return page("error.html", HTTPStatus.UNPROCESSABLE_ENTITY, detail=detail)
        seen = self.seen(request)
        client = seen.flow_runs.client
        runs, next_cursor = seen.searched(filter_).page(client, limit=LISTED, cursor=cursor)
        is_first = cursor is None and filter_.status in ([], [Status.PAUSED])
        asking = _asking(seen, filter_) if is_first else []
        rest = {name: value for name, value in asked.items() if name != "status"}
        return page(
            "list.html",
            asking=_rows(client, asking),
            items=_rows(
                client, [run for run in runs if run.id not in {each.id for each in asking}]
            ),
            asked=asked,
            others=urlencode(rest),
            counts=_counts(seen, filter_),
            may=may(request),
            older=next_cursor and urlencode({**asked, "cursor": next_cursor}),
            first=not cursor,
        )


def _asking(seen: Executions, filter_: ExecutionFilter) -> Sequence[FlowRun]:
    """The newest of those that need an answer."""
    paused = filter_.model_copy(update={"status": [Status.PAUSED]})
    runs, _ = seen.searched(paused).page(seen.flow_runs.client, limit=PAUSED)
    return [run for run in runs if is_question(state_of(run))][:ASKING]


def _counts(seen: Executions, filter_: ExecutionFilter) -> dict[Status, int]:
    """How many there are of each status; none where Prefect can't count them."""
    found: dict[Status, int] = {}
    for status in Status:
        counted = seen.searched(filter_.model_copy(update={"status": [status]}))
        number = counted.count(seen.flow_runs.client)
        if number is None:
            return {}
        found[status] = number
    return found


def _rows(client: SyncPrefectClient, runs: Sequence[FlowRun]) -> list[ListedRow]:
    facts = page_facts(client, [run.id for run in runs])
    return [
        ListedRow(summary_of(run), is_question(state_of(run)), origin_of(run), facts.get(run.id))
        for run in runs
    ]
