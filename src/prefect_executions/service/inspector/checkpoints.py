"""The pages of a checkpoint and of the difference between two, and its state as a file."""

import difflib
from collections import Counter

import orjson
from starlette.requests import Request
from starlette.responses import Response

from prefect_executions import serialization
from prefect_executions.executions.reader import DIFF_BYTES
from prefect_executions.executions.views import checkpoint_of, steps_since
from prefect_executions.ids import checkpoint_seq
from prefect_executions.service.inspector.access import Pages, may
from prefect_executions.service.inspector.differences import MOST, differences
from prefect_executions.service.inspector.rendering import page, pretty
from prefect_executions.service.inspector.states import last_that_differ, shown_state

COMPARED = 20_000  # lines of a state in a comparison, at most
LINES, LINE = 500, 200  # lines of a comparison that are shown, and characters of each
OFFERED = 100  # checkpoints to choose from


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
            shown=shown_state(seen, id_, request.query_params, checkpoint.id),
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
        """What changes one checkpoint into another; by default the last two that differ."""
        seen, id_ = self.seen(request), request.path_params["execution_id"]
        execution = seen.get(id_, checkpoints=OFFERED, states=False)
        names = [request.query_params.get(name, "") for name in ("from", "to")]
        if not any(names):
            names = [*(last_that_differ(seen, id_) or ())]
        if not names:
            return page("diff.html", execution=execution, one=None, other=None, most=MOST)
        log = seen.log(id_)
        before, after = (log.at_checkpoint(checkpoint_seq(id_, name)) for name in names)
        states = [serialization.load(head.state) for head in (before, after)]
        is_small = len(before.state) + len(after.state) <= DIFF_BYTES
        return page(
            "diff.html",
            execution=execution,
            one=checkpoint_of(before.entry, None),
            other=checkpoint_of(after.entry, None),
            changes=differences(*states) if is_small else None,
            most=MOST,
            lines=_changes(*map(pretty, states)) if is_small else None,
            steps=Counter(step.step for step in steps_since(before, after)),
        )


def _changes(before: str, after: str) -> list[tuple[str, str]] | None:
    """The lines that differ and some around them, with their kinds; None when too many."""
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > COMPARED:
        return None
    kinds = {"+": "new", "-": "old", "@": "where"}
    lines = list(difflib.unified_diff(old, new, lineterm="", n=3))[2:]
    return [(kinds.get(line[:1], "same"), line[:LINE]) for line in lines[:LINES]]
