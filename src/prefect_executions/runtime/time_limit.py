"""`max_duration_seconds`: the end of an execution's active time."""

import os
from collections.abc import Callable

from prefect.exceptions import Pause
from prefect.logging import get_run_logger

from prefect_executions.background import Scheduler
from prefect_executions.errors import DurationExceeded, ExecutionError, PrefectUnavailable
from prefect_executions.runtime.interrupts import Interrupt
from prefect_executions.runtime.ownership import Ownership

EXIT_PATIENCE = 30.0  # seconds that a flow out of time may take to end: as long as Prefect's


class TimeLimit:
    """Ends a flow whose execution has been active for as long as it may be.

    Args:
        execution_id: The execution.
        seconds: `max_duration_seconds`; None when there is no limit.
        ownership: Knows the active time.
        dead_seconds: The part of it in which no process was alive, by the log.
        save: Saves what was published, before the flow is interrupted.

    Attributes:
        is_over: Whether the time is over.
    """

    def __init__(
        self,
        execution_id: str,
        seconds: float | None,
        ownership: Ownership,
        *,
        dead_seconds: Callable[[], float],
        save: Callable[[], None],
    ) -> None:
        self.is_over = False
        self._execution_id = execution_id
        self._seconds = seconds
        self._ownership = ownership
        self._dead_seconds = dead_seconds
        self._save = save
        self._logger = get_run_logger()

    @property
    def error(self) -> DurationExceeded:
        """That the time is over."""
        return DurationExceeded(self._execution_id, self._seconds or 0)

    def require(self) -> None:
        """Check that there is time left.

        Raises:
            DurationExceeded: The time is over.
        """
        if self.is_over:
            raise self.error

    def start(self, scheduler: Scheduler, interrupt: Interrupt) -> None:
        """Interrupt the flow's function when the time is over.

        Args:
            scheduler: Waits for that.
            interrupt: Ends the function, wherever it is.

        Raises:
            DurationExceeded: No time is left.
        """
        if self._seconds is None:
            return
        left = self._left(self._seconds, self._ownership.active_seconds())
        if left <= 0:
            self.is_over = True
            self.require()
        scheduler.after(left, lambda: self._expire(scheduler, interrupt))

    def _left(self, limit: float, active: float) -> float:
        return limit - active + self._dead_seconds()

    def _expire(self, scheduler: Scheduler, interrupt: Interrupt) -> None:
        """End the flow, unless Prefect knows of a pause that this process waited for meanwhile."""
        left = 0.0
        try:
            left = self._left(self._seconds or 0, self._ownership.active_seconds_now())
        except PrefectUnavailable as silence:
            self._logger.warning("Could not ask Prefect for the run's active time: %s", silence)
        if left > 1:
            scheduler.after(left, lambda: self._expire(scheduler, interrupt))
            return
        self.is_over = True
        self._save()
        if interrupt.now():
            scheduler.after(EXIT_PATIENCE, self._end_process)

    def _end_process(self) -> None:
        """End the process of a flow that does not end, if the process is Prefect's to end."""
        self._logger.error("%s It did not stop in %.0f s.", self.error, EXIT_PATIENCE)
        try:
            self._ownership.fail(f"{self.error}")
        except (ExecutionError, Pause) as error:
            self._logger.error("Prefect did not take the failure: %s", error)
        if os.environ.get("PREFECT__FLOW_RUN_ID") == str(self._ownership.run.id):
            os._exit(1)
