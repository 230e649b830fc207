"""The pages of a checkpoint and of the difference between two, and its state as a file."""

import difflib

import orjson
from starlette.requests import Request
from starlette.responses import Response

from prefect_executions.service.inspector.access import Pages, may
from prefect_executions.service.inspector.rendering import cut, page, pretty

COMPARED = 20_000  # lines of a state in a comparison, at most


class CheckpointPages(Pages):
    """The pages about the checkpoints of an execution."""

    def show(self, request: Request) -> Response:
        """The page of a checkpoint."""
        seen = self.seen(request)
        id_, name = request.path_params["execution_id"], request.path_params["checkpoint_id"]
        checkpoint = seen.read_checkpoint(id_, name)
        before = seen.checkpoints(id_, limit=1, cursor=name).items
        return page(
            "checkpoint.html",
            execution=seen.get(id_, checkpoints=0, states=False),
            may=may(request),
            checkpoint=checkpoint,
            before=before[0] if before else None,
            state=cut(pretty(checkpoint.state)),
        )

    def state(self, request: Request) -> Response:
        """The state of a checkpoint, as a file."""
        id_, name = request.path_params["execution_id"], request.path_params["checkpoint_id"]
        checkpoint = self.seen(request).read_checkpoint(id_, name)
        return Response(
            orjson.dumps(checkpoint.state),
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{checkpoint.id}.json"'},
        )

    def diff(self, request: Request) -> Response:
        """What changes one checkpoint into another."""
        seen, id_ = self.seen(request), request.path_params["execution_id"]
        names = [request.query_params.get(name, "") for name in ("from", "to")]
        one, other = (seen.read_checkpoint(id_, name) for name in names)
        return page(
            "diff.html",
            execution=seen.get(id_, checkpoints=0, states=False),
            one=one,
            other=other,
            lines=_changes(pretty(one.state), pretty(other.state)),
        )


def _changes(before: str, after: str) -> list[tuple[str, str]] | None:
    """The lines that differ and some around them, with their kinds; None when too many."""
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > COMPARED:
        return None
    kinds = {"+": "new", "-": "old", "@": "where"}
    lines = list(difflib.unified_diff(old, new, lineterm="", n=3))[2:]
    return [(kinds.get(line[:1], "same"), line) for line in lines]
