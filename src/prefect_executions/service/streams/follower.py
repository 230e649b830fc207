"""What a client has been told of an execution, and what it is to be told next.

What has happened is what Prefect and the log say when asked; Prefect's events only tell when. So a
client is told what it has missed by a look at both, at its beginning and whenever the subscription
was lost, and else by the events as they come. Prefect's record of events is never read: it is five
seconds late, and forgets.
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

MISSED_CHECKPOINTS = 100  # how many checkpoints a client is told of that it has missed, at most

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION = re.compile(r"(\d{1,17})-([0-9a-f]{32})-(\d{1,9})")


@dataclass(frozen=True)
class Position:
    """Up to where a client has been told: the `id` of each of its events.

    Args:
        at: Since when there is the newest state that it knows.
        state_id: The state that it was told last.
        seq: The number of the log's entry up to which it knows the checkpoints.
    """

    at: datetime
    state_id: UUID
    seq: int

    def __str__(self) -> str:
        """Write it as an id."""
        # Prefect's times may be pendulum's, whose differences a timedelta does not divide.
        at = timegm(self.at.utctimetuple()) * 1_000_000 + self.at.microsecond
        return f"{at}-{self.state_id.hex}-{self.seq}"

    @classmethod
    def of(cls, last_event_id: str | None) -> "Position | None":
        """Read it from a `Last-Event-ID`; None: there is none, or another's."""
        match = _POSITION.fullmatch(last_event_id or "")
        if match is None:
            return None
        at = _EPOCH + timedelta(microseconds=int(match[1]))
        return cls(at, UUID(match[2]), int(match[3]))


class Follower:
    """What one client has been told of an execution, and is to be told next.

    Args:
        executions: The executions.
        execution_id: The one that is followed.
        position: What was told before; None: nothing, it begins with the present status.
    """

    def __init__(
        self, executions: Executions, execution_id: str, position: Position | None = None
    ) -> None:
        self.execution_id = execution_id
        self._executions = executions
        self._position = position
        self._known: set[UUID] = set()  # states

    def look(self) -> list[ServerSentEvent]:
        """Ask Prefect and the log what has happened; it blocks.

        Raises:
            ExecutionNotFound: the execution has been deleted, or is not seen.
            StoreUnavailable, PrefectUnavailable: one of them did not answer.
        """
        states = self._states()
        # The log after the states: who hears of an end has heard of the last checkpoint.
        log = self._executions.log(self.execution_id)
        newest = log.newest()
        if newest is None:
            raise ExecutionNotFound(self.execution_id)
        since = self._position
        checkpoints: list[CheckpointSaved] = []
        if since is None:
            self._position = Position(states[-1].timestamp, states[-1].id, newest)
            told = states[-1:]
        else:
            told = [
                state
                for state in states
                if state.id not in self._known
                and (state.timestamp > since.at or state is states[-1])
                and state.id != since.state_id
            ]
            if newest > since.seq:
                missed = min(newest - since.seq, MISSED_CHECKPOINTS)
                found = log.read(checkpoints=missed).checkpoints()
                checkpoints = [
                    CheckpointSaved.of(self.execution_id, entry)
                    for entry in reversed(found)
                    if entry.seq > since.seq
                ]
        changes = [StatusChanged.of(self.execution_id, state) for state in told]
        events = [self._tell(change) for change in _in_order(changes, checkpoints)]
        self._known.update(state.id for state in states)
        assert self._position is not None
        self._position = replace(self._position, seq=max(self._position.seq, newest))
        return events

    def _states(self) -> list[State[Any]]:
        """The states that the run has had, the present one last."""
        run = self._executions.run(self.execution_id)
        while True:
            states = self._executions.flow_runs.states(run)
            run = self._executions.run(self.execution_id)
            present = [state for state in states if state.id == state_of(run).id]
            if present:  # else it has changed in between
                return [state for state in states if state.id != present[0].id] + present

    def hear(self, change: Change) -> ServerSentEvent | None:
        """What a change means for the client; None: it knows."""
        match change:
            case StatusChanged(state_id) if state_id in self._known:
                return None
            case CheckpointSaved(seq) if self._position and seq <= self._position.seq:
                return None  # or a newer one was told, which is all that counts
        return self._tell(change)

    def _tell(self, change: Change) -> ServerSentEvent:
        position = self._position
        assert position is not None, "there was no look"
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
        return _event(kind, data, position)

    def end(self) -> ServerSentEvent:
        """The last event, of an execution that has been deleted."""
        return self._tell(Deleted.of(self.execution_id))


def _event(kind: str, data: BaseModel, position: Position) -> ServerSentEvent:
    return ServerSentEvent(data.model_dump_json(), event=kind, id=f"{position}", sep="\n")


def _in_order(
    statuses: Sequence[StatusChanged], checkpoints: Sequence[CheckpointSaved]
) -> list[Change]:
    """Put checkpoints between statuses by their times; both keep their own order."""
    timed: list[tuple[datetime, Change]] = [
        *zip(accumulate((status.data.at for status in statuses), max), statuses, strict=True),
        *zip(accumulate((saved.data.at for saved in checkpoints), max), checkpoints, strict=True),
    ]
    return [change for _, change in sorted(timed, key=itemgetter(0))]
