"""The supervisor's own heartbeat: it shows whether Prefect keeps heartbeats at all.

Supervisors hear each other, too, and so share the work that one of them has to do.
"""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from prefect_executions.prefect.events import Heartbeats, beat_of_supervisor


class OwnHeartbeat:
    """The heartbeat of one supervisor, sent to Prefect and found there again.

    Args:
        store: The name of the store whose executions it looks after; None for those of all.
        silence: How long a run without heartbeats counts as alive.

    Attributes:
        id: The supervisor's id, new for each supervisor, after the name of its store.
        newest: The time of the newest one that Prefect has kept, or None before the first.
        kept_since: Since when Prefect has kept all heartbeats, or None while it does not.
    """

    def __init__(self, store: str | None, silence: timedelta) -> None:
        self._group = f"{store or ''}."
        self.id = f"{self._group}{uuid4().hex}"
        self.newest: datetime | None = None
        self.kept_since: datetime | None = None
        self._silence = silence
        self._colleagues = [self.id]  # the supervisors of this store that are alive, in order

    def send(self) -> None:
        """Send a heartbeat; this neither waits nor fails."""
        beat_of_supervisor(self.id)

    def update(self, heard: Heartbeats, now: datetime) -> None:
        """Take over what Prefect has kept of it."""
        alive = {id_ for id_ in heard.supervisors if id_.startswith(self._group)}
        self._colleagues = sorted(alive | {self.id})
        own = heard.supervisors.get(self.id)
        self.newest = own or self.newest
        if own is None or now - own > self._silence / 2:
            self.kept_since = None
        else:
            self.kept_since = self.kept_since or own

    def proves_silence(self, now: datetime) -> bool:
        """Whether a run without heartbeats is silent: Prefect has kept them for long enough."""
        return self.kept_since is not None and now - self.kept_since >= self._silence

    def owns(self, run_id: UUID) -> bool:
        """Whether a run is this supervisor's, among those of its store that are alive.

        Each run is of one of them, once they hear each other; until then it may be of several.
        """
        return self._colleagues[run_id.int % len(self._colleagues)] == self.id
