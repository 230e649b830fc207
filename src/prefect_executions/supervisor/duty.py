"""A duty of the supervisor, and what all duties work with."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from opentelemetry.trace import get_current_span
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType

from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.listing import Walk, in_states
from prefect_executions.settings import ExecutionsSettings

R = TypeVar("R", FlowRun, UUID)

RARELY = 12  # after how many looks something is looked at again that is not urgent,
MINUTE = timedelta(seconds=60)  # and after this time in any case
NEVER = datetime.min.replace(tzinfo=UTC)


class Duty(Protocol[R]):
    """One kind of work of the supervisor: which runs need it, and how it is done.

    A duty is made with a `DutyContext`, and remembers which runs it has dealt with.

    Attributes:
        name: What is done, for the log.
    """

    name: str

    def due(self, now: datetime, /) -> Iterable[R]:
        """Find the runs that need it; this changes nothing outside the duty's own memory."""

    def act(self, run: R, /) -> None:
        """Do it for one run; what another process has done in the meantime is left alone."""


@dataclass(frozen=True)
class DutyContext:
    """What all duties work with.

    Args:
        executions: The executions.
        client: Prefect's client.
        settings: How soon silence is a crash.
        clock: The present time.
        on_action: Called with the name of each thing that is done.
    """

    executions: Executions
    client: SyncPrefectClient
    settings: ExecutionsSettings
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    on_action: Callable[[str], None] = lambda _: None

    @property
    def flow_runs(self) -> FlowRuns:
        """The executions as flow runs."""
        return self.executions.flow_runs

    @property
    def silence(self) -> timedelta:
        """How long a run without heartbeats counts as alive."""
        return timedelta(seconds=self.settings.silence_seconds)

    @property
    def pause_seconds(self) -> float:
        """The time between two looks."""
        return self.settings.heartbeat_seconds / 2

    @property
    def rarely(self) -> timedelta:
        """The time after which something is looked at again that is not urgent."""
        return min(timedelta(seconds=RARELY * self.pause_seconds), MINUTE)

    def walk(self, *types: StateType) -> Walk:
        """A walk through all runs in the store with a state of one of these types, or any."""
        return Walk(self.client, in_states(self.flow_runs.tags, *types))

    def log(self, run: FlowRun) -> ExecutionLog:
        """The log of a run's execution, which may not exist."""
        return self.executions.log(execution_id(run.id))

    def note(self, action: str) -> None:
        """Report what was done, by its name: as an event of the span, and to `on_action`."""
        get_current_span().add_event(action)
        self.on_action(action)


class Interval:
    """A time that has to pass between two acts; the first may be at once.

    Args:
        length: The time.
    """

    def __init__(self, length: timedelta) -> None:
        self._length = length
        self._began = NEVER

    def restart(self, now: datetime) -> bool:
        """Begin the next interval if this one is over; returns whether it was."""
        is_over = now - self._began >= self._length
        if is_over:
            self._began = now
        return is_over
