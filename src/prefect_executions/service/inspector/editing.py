"""The page on which the state of an execution is corrected by hand, while no process runs it."""

from http import HTTPStatus
from typing import Annotated, Any

from anyio import to_thread
from markupsafe import escape
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from prefect_executions import serialization
from prefect_executions.blocks.key import Permission
from prefect_executions.errors import ExecutionError, StateError
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import checkpoint_id
from prefect_executions.labels import Label
from prefect_executions.service.dependencies import caller_of
from prefect_executions.service.inspector.access import Pages, may, posted
from prefect_executions.service.inspector.answers import made
from prefect_executions.service.inspector.fields import Field as FormField
from prefect_executions.service.inspector.fields import Posted, field_of
from prefect_executions.service.inspector.rendering import page, pretty
from prefect_executions.service.problems import refusal_of, status_of
from prefect_executions.service.requests import Reason

LARGEST = 128 << 10  # bytes of a page that a state may take to be edited there


class Edit(BaseModel):
    """A state that is saved by hand."""

    model_config = ConfigDict(extra="forbid")

    state: Any = Field(description="The whole state, as it is to be.")
    label: Label | None = Field(None, description="What people see in the list of checkpoints.")
    reason: Annotated[Reason | None, Field(description="Why; it is kept with the checkpoint.")] = (
        None
    )


class EditPages(Pages):
    """The page that corrects a state."""

    def ask(self, request: Request) -> Response:
        """The page, with the newest state."""
        seen, id_ = self.seen(request, Permission.WRITE), request.path_params["execution_id"]
        seen.run(id_)
        head = seen.log(id_).living_head(journal=False)
        form = field_of(Edit.model_json_schema())
        text = _text(head.state)
        if text is not None:
            form.fields[0].raw = [text]
        newest = checkpoint_id(head.entry.continues_from)
        return self._page(request, form, newest, is_small=text is not None)

    async def edit(self, request: Request) -> Response:
        """Save the state in the form, unless another was saved meanwhile."""
        return await to_thread.run_sync(self._edit, request, await posted(request))

    def _edit(self, request: Request, given: Posted) -> Response:
        seen, id_ = self.seen(request, Permission.WRITE), request.path_params["execution_id"]
        form = field_of(Edit.model_json_schema(), given)
        known = "".join(given.get("newest", ()))
        wanted = made(form, Edit)
        if wanted is None:
            return self._page(request, form, known, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        by = caller_of(request.scope).name
        try:
            seen.checkpoint(id_, **dict(wanted), by=by, after=known)
        except StateError as error:
            form.fields[0].error = f"{error}"
            return self._page(request, form, known, status=status_of(error))
        except ExecutionError as error:
            newest, refusal = _newest(seen, id_), refusal_of(error).detail
            if newest != known:
                refusal += " Sent again, this is saved after it."
            return self._page(request, form, newest, refusal, status_of(error))
        return self.done(id_)

    def _page(
        self,
        request: Request,
        form: FormField,
        newest: str,
        refusal: str = "",
        status: HTTPStatus = HTTPStatus.OK,
        *,
        is_small: bool = True,
    ) -> Response:
        seen = self.seen(request, Permission.WRITE)
        id_ = request.path_params["execution_id"]
        return page(
            "edit.html",
            status,
            execution=seen.get(id_, checkpoints=0, states=False),
            may=may(request),
            form=form,
            newest=newest,
            refusal=refusal,
            is_small=is_small,
        )


def _text(state: bytes) -> str | None:
    """A state as it is edited; None where it would take more than `LARGEST` of a page."""
    if len(state) > LARGEST:
        return None
    text = pretty(serialization.load(state))
    return text if len(escape(text).encode()) <= LARGEST else None


def _newest(seen: Executions, execution_id: str) -> str:
    """The checkpoint whose state is the newest."""
    seen.run(execution_id)
    head = seen.log(execution_id).living_head(journal=False)
    return checkpoint_id(head.entry.continues_from)
