"""The events of an execution for one client: which it has been sent, and which come next.

Prefect's states and the log are the truth; Prefect's events only say when something has changed.
When a stream begins, and after the subscription was lost, both are read for what the client has
missed; otherwise events are sent as they come. Prefect's record of events is never read: it is five
seconds late, and old events are removed.
"""

import re
from calendar import timegm
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from operator import itemgetter
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State
from pydantic import BaseModel
from sse_starlette import ServerSentEvent

from prefect_executions.errors import ExecutionNotFound
from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.changes import Change, CheckpointSaved, Deleted, StatusChanged
from prefect_executions.prefect.states import state_of

MISSED_CHECKPOINTS = 100  # how many missed checkpoints a client is sent, at most

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION = re.compile(r"(\d{1,17})-([0-9a-f]{32})-(\d{1,9})")


@dataclass(frozen=True)
class Position:
    """How far a client has come: the `id` of each of its events.

    Args:
        at: When the newest state that it knows was set.
        state_id: The state that it was sent last.
        seq: The number of the log's entry up to which it knows the checkpoints.
    """

    at: datetime
    state_id: UUID
    seq: int

    def __str__(self) -> str:
        """The `id` of an event."""
        # Prefect's times may be pendulum's, whose differences a timedelta does not divide.
        at = timegm(self.at.utctimetuple()) * 1_000_000 + self.at.microsecond
        return f"{at}-{self.state_id.hex}-{self.seq}"

    @classmethod
    def of(cls, last_event_id: str | None) -> "Position | None":
        """Parse a `Last-Event-ID`; None when there is none, or it has another form."""
        match = _POSITION.fullmatch(last_event_id or "")
        if match is None:
            return None
        at = _EPOCH + timedelta(microseconds=int(match[1]))
        return cls(at, UUID(match[2]), int(match[3]))


class Follower:
    """Finds the events of an execution that one client has not been sent.

    Args:
        executions: The executions.
        execution_id: The execution to follow.
        position: How far the client has come; None to begin with the current status.
    """

    def __init__(
        self, executions: Executions, execution_id: str, position: Position | None = None
    ) -> None:
        self.execution_id = execution_id
        self._executions = executions
        self._position = position
        self._known: set[UUID] = set()  # states

    def look(self) -> list[ServerSentEvent]:
        """Read what has happened from Prefect and the log; it blocks.

        Raises:
            ExecutionNotFound: The execution has been deleted, or the caller may not see it.
            StoreUnavailable, PrefectUnavailable: One of them did not answer.
        """
        states = self._states()
        # Read after the states, so that the last checkpoint is sent before the end.
        log = self._executions.log(self.execution_id)
        newest = log.newest()
        if newest is None:
            raise ExecutionNotFound(self.execution_id)
        since = self._position
        checkpoints: list[CheckpointSaved] = []
        if since is None:
            newest, _ = log.below_claims()
            self._position = Position(states[-1].timestamp, states[-1].id, newest)
            new = states[-1:]
        else:
            new = [
                state
                for state in states
                if state.id not in self._known
                and (state.timestamp > since.at or state is states[-1])
                and state.id != since.state_id
            ]
            if newest > since.seq:
                missed = min(newest - since.seq, MISSED_CHECKPOINTS)
                history = log.read(checkpoints=missed)
                newest = history.head.entry.seq
                checkpoints = [
                    CheckpointSaved.of(self.execution_id, entry)
                    for entry in reversed(history.checkpoints())
                    if entry.seq > since.seq
                ]
        changes = [StatusChanged.of(self.execution_id, state) for state in new]
        events = [self._event(change) for change in _in_order(changes, checkpoints)]
        self._known.update(state.id for state in states)
        assert self._position is not None
        self._position = replace(self._position, seq=max(self._position.seq, newest))
        return events

    def _states(self) -> list[State[Any]]:
        """The states that the run has had, the current one last."""
        run = self._executions.run(self.execution_id)
        while True:
            states = self._executions.flow_runs.states(run)
            run = self._executions.run(self.execution_id)
            current = [state for state in states if state.id == state_of(run).id]
            if current:  # otherwise it has changed in between
                return [state for state in states if state.id != current[0].id] + current

    def take(self, change: Change) -> ServerSentEvent | None:
        """The event for a change; None when the client knows it."""
        match change:
            case StatusChanged(state_id) if state_id in self._known:
                return None
            case CheckpointSaved(seq) if self._position and seq <= self._position.seq:
                return None  # or it knows a newer one, which is enough
        return self._event(change)

    def _event(self, change: Change) -> ServerSentEvent:
        position = self._position
        assert position is not None, "call `look` first"
        data: BaseModel
        match change:
            case StatusChanged(state_id, _, data):
                self._known.add(state_id)
                position = replace(position, at=max(position.at, data.at), state_id=state_id)
                kind = "status"
            case CheckpointSaved(seq, data):
                position = replace(position, seq=max(position.seq, seq))
                kind = "checkpoint"
            case Deleted(data):
                kind = "deleted"
        self._position = position
        return ServerSentEvent(data.model_dump_json(), event=kind, id=f"{position}", sep="\n")

    def end(self) -> ServerSentEvent:
        """The last event, when the execution has been deleted."""
        return self._event(Deleted.of(self.execution_id))


def _in_order(
    statuses: Sequence[StatusChanged], checkpoints: Sequence[CheckpointSaved]
) -> list[Change]:
    """Merge statuses and checkpoints by their times; both keep their own order."""
    timed: list[tuple[datetime, Change]] = [
        *zip(accumulate((status.data.at for status in statuses), max), statuses, strict=True),
        *zip(accumulate((saved.data.at for saved in checkpoints), max), checkpoints, strict=True),
    ]
    return [change for _, change in sorted(timed, key=itemgetter(0))]
