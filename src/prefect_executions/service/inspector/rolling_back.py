"""The page that asks before an execution is rolled back: what that changes, and what it leaves."""

from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from prefect_executions import serialization
from prefect_executions.blocks.key import Permission
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.reader import DIFF_BYTES
from prefect_executions.executions.views import checkpoint_of
from prefect_executions.ids import checkpoint_seq
from prefect_executions.log.journal import forgotten
from prefect_executions.models import Checkpoint
from prefect_executions.service.dependencies import caller_of
from prefect_executions.service.inspector.access import Pages, may, posted
from prefect_executions.service.inspector.differences import MOST, PartChange, differences
from prefect_executions.service.inspector.fields import Posted
from prefect_executions.service.inspector.rendering import page

REASON_LENGTH = 1_000


@dataclass(frozen=True)
class WayBack:
    """What a roll-back to a checkpoint changes.

    Args:
        checkpoint: The checkpoint.
        changes: What differs between the newest state and that of the checkpoint; None where they
            are too large to be compared.
        undone: How often each step is undone, by their names.
        kept: How often each other step after the checkpoint has happened; it is not undone.
    """

    checkpoint: Checkpoint
    changes: list[PartChange] | None
    undone: Counter[str]
    kept: Counter[str]


class RollBackPages(Pages):
    """The page that asks before a roll-back, and the roll-back."""

    def ask(self, request: Request) -> Response:
        """The page."""
        return self._page(request, "")

    async def roll_back(self, request: Request) -> Response:
        """Roll back, for the reason in the form, and resume."""
        return await to_thread.run_sync(self._roll_back, request, await posted(request))

    def _roll_back(self, request: Request, given: Posted) -> Response:
        seen = self.seen(request, Permission.WRITE)
        id_, name = request.path_params["execution_id"], request.path_params["checkpoint_id"]
        reason = "".join(given.get("reason", ())).strip()
        if len(reason) > REASON_LENGTH:
            return self._page(request, reason, HTTPStatus.UNPROCESSABLE_ENTITY)
        by = caller_of(request.scope).name
        seen.resume(id_, checkpoint_id=name, force=True, by=by, reason=reason or None)
        return self.done(id_)

    def _page(self, request: Request, reason: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
        seen = self.seen(request, Permission.WRITE)
        id_, name = request.path_params["execution_id"], request.path_params["checkpoint_id"]
        return page(
            "roll-back.html",
            status,
            execution=seen.get(id_, checkpoints=0, states=False),
            may=may(request),
            way=way_back(seen, id_, name),
            most=MOST,
            reason=reason,
            longest=REASON_LENGTH,
            too_long=status is not HTTPStatus.OK,
        )


def way_back(seen: Executions, execution_id: str, checkpoint_id: str) -> WayBack:
    """What a roll-back to a checkpoint changes.

    Raises:
        CheckpointNotFound: There is no such checkpoint.
    """
    seen.run(execution_id)
    log = seen.log(execution_id)
    target = log.at_checkpoint(checkpoint_seq(execution_id, checkpoint_id))
    head = log.living_head()
    changes = None
    if len(head.state) + len(target.state) <= DIFF_BYTES:
        changes = differences(*(serialization.load(each.state) for each in (head, target)))
    lost = forgotten(head.records(), target.records())
    return WayBack(
        checkpoint_of(target.entry, None),
        changes,
        Counter(record.step for record in lost if record.undo),
        Counter(record.step for record in lost if not record.undo),
    )
