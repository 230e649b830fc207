"""The page that lists executions."""

from http import HTTPStatus
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from prefect_executions.models import ExecutionFilter
from prefect_executions.service.inspector.access import Pages
from prefect_executions.service.inspector.rendering import page

LISTED = 50


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
        found = self.seen(request).search(filter_, limit=LISTED, cursor=cursor)
        older = found.next_cursor and urlencode({**asked, "cursor": found.next_cursor})
        return page("list.html", items=found.items, asked=asked, older=older, first=not cursor)
