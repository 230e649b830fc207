"""The supervisor's own heartbeat: it shows whether Prefect keeps heartbeats at all."""

from datetime import datetime, timedelta
from uuid import uuid4

from prefect_executions.prefect.events import Heartbeats, beat_of_supervisor


class OwnHeartbeat:
    """The heartbeat of one supervisor, sent to Prefect and found there again.

    Args:
        silence: How long a run without heartbeats counts as alive.

    Attributes:
        id: The supervisor's id, new for each supervisor.
        newest: The time of the newest one that Prefect has kept, or None before the first.
        kept_since: Since when Prefect has kept all heartbeats, or None while it does not.
    """

    def __init__(self, silence: timedelta) -> None:
        self.id = uuid4().hex
        self.newest: datetime | None = None
        self.kept_since: datetime | None = None
        self._silence = silence

    def send(self) -> None:
        """Send a heartbeat; this neither waits nor fails."""
        beat_of_supervisor(self.id)

    def update(self, heard: Heartbeats, now: datetime) -> None:
        """Take over what Prefect has kept of it."""
        own = heard.supervisors.get(self.id)
        self.newest = own or self.newest
        if own is None or now - own > self._silence / 2:
            self.kept_since = None
        else:
            self.kept_since = self.kept_since or own

    def proves_silence(self, now: datetime) -> bool:
        """Whether a run without heartbeats is silent: Prefect has kept them for long enough."""
        return self.kept_since is not None and now - self.kept_since >= self._silence
