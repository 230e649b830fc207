"""What the buttons of the pages do: pause, resume, cancel and delete an execution."""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from prefect_executions.blocks.key import Permission
from prefect_executions.service.inspector.access import Pages
from prefect_executions.service.inspector.rendering import PATH, page


class ControlPages(Pages):
    """The actions on an execution, and the page that asks before it is deleted."""

    def pause(self, request: Request) -> Response:
        """Pause it."""
        id_ = request.path_params["execution_id"]
        self.seen(request, Permission.WRITE).pause(id_, reason="Paused in the inspector")
        return self.done(id_)

    def resume(self, request: Request) -> Response:
        """Resume it from its newest state."""
        id_ = request.path_params["execution_id"]
        self.seen(request, Permission.WRITE).resume(id_)
        return self.done(id_)

    def cancel(self, request: Request) -> Response:
        """Terminate it, and keep it."""
        id_ = request.path_params["execution_id"]
        self.seen(request, Permission.WRITE).cancel(id_)
        return self.done(id_)

    def ask_to_delete(self, request: Request) -> Response:
        """Ask whether it is to be deleted."""
        id_ = request.path_params["execution_id"]
        seen = self.seen(request, Permission.DELETE)
        return page("delete.html", execution=seen.get(id_, checkpoints=0, states=False))

    def delete(self, request: Request) -> Response:
        """Delete it."""
        id_ = request.path_params["execution_id"]
        self.seen(request, Permission.DELETE).delete(id_)
        return RedirectResponse(PATH, HTTPStatus.SEE_OTHER)
