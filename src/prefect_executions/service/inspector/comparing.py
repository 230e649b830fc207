"""The page that sets executions beside the first of them."""

from starlette.requests import Request
from starlette.responses import Response

from prefect_executions.executions.comparing import compare
from prefect_executions.ids import canonical
from prefect_executions.models import ExecutionFilter
from prefect_executions.service.inspector.access import Pages
from prefect_executions.service.inspector.rendering import page

MOST = 10  # executions that are compared
STEPS = 200  # that are listed
OFFERED = 20  # forks to choose from


class ComparePages(Pages):
    """The page that compares executions."""

    def compare(self, request: Request) -> Response:
        """The page; with one execution, its origin and its forks are offered."""
        seen = self.seen(request)
        given = [canonical(each.strip()) for each in request.query_params.getlist("ids")]
        ids = list(dict.fromkeys(filter(None, given)))[:MOST]
        first = seen.get(ids[0], checkpoints=0, states=False) if ids else None
        offered: list[tuple[str, str]] = []
        if first is not None:
            forks = seen.search(ExecutionFilter(forked_from=first.id), limit=OFFERED).items
            offered = [(fork.id, fork.name) for fork in forks]
            if first.forked_from is not None:
                offered = [(first.forked_from.execution_id, "its origin"), *offered]
        return page(
            "compare.html",
            ids=ids,
            first=first,
            offered=[each for each in offered if each[0] not in ids],
            compared=compare(seen, ids) if len(ids) > 1 else None,
            most=STEPS,
        )
