"""The page that forks an execution: with all that a fork may differ in."""

from http import HTTPStatus
from uuid import uuid4

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from prefect_executions.blocks.key import Permission
from prefect_executions.errors import ExecutionError
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.plans import Changes
from prefect_executions.service.dependencies import caller_of, note_in_audit
from prefect_executions.service.inspector.access import Pages, may, posted
from prefect_executions.service.inspector.answers import made
from prefect_executions.service.inspector.fields import Field, Posted, field_of
from prefect_executions.service.inspector.rendering import PATH, page
from prefect_executions.service.problems import refusal_of, status_of
from prefect_executions.service.requests import Fork


class ForkPages(Pages):
    """The page that forks an execution."""

    def ask(self, request: Request) -> Response:
        """The page; the query may name the checkpoint."""
        form = field_of(Fork.model_json_schema())
        for field in form.fields:
            if field.path == ("checkpoint_id",):
                field.raw = [request.query_params.get("checkpoint", "")]
        return self._page(request, form, uuid4().hex)

    async def fork(self, request: Request) -> Response:
        """Fork it as the form says, and lead to the fork, or to the list of several."""
        return await to_thread.run_sync(self._fork, request, await posted(request))

    def _fork(self, request: Request, given: Posted) -> Response:
        seen, id_ = self.seen(request, Permission.WRITE), request.path_params["execution_id"]
        key = "".join(given.get("key", ()))[:64]
        form = field_of(Fork.model_json_schema(), given)
        wanted = made(form, Fork)
        if wanted is None:
            return self._page(request, form, key, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        fields = dict(wanted)
        count = fields.pop("count")
        creation = Creation(seen, self.allowed)
        own_key = f"{caller_of(request.scope).name}\n{key}" if key else None
        try:
            forks = creation.forks(id_, Changes(**fields), count=count, key=own_key)
        except ExecutionError as error:
            return self._page(request, form, key, refusal_of(error).detail, status_of(error))
        note_in_audit(request, "created", [fork.id for fork, _ in forks])
        for fork, _ in forks:
            self.changed(fork.id)
        there = f"/{forks[0][0].id}" if count == 1 else f"/?forked_from={id_}"
        return RedirectResponse(f"{PATH}{there}", HTTPStatus.SEE_OTHER)

    def _page(
        self,
        request: Request,
        form: Field,
        key: str,
        refusal: str = "",
        status: HTTPStatus = HTTPStatus.OK,
    ) -> Response:
        seen = self.seen(request, Permission.WRITE)
        id_ = request.path_params["execution_id"]
        return page(
            "fork.html",
            status,
            execution=seen.get(id_, checkpoints=0, states=False),
            parameters=seen.run(id_).parameters,
            may=may(request),
            form=form,
            key=key,
            refusal=refusal,
        )
