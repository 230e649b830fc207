"""A lease that one process at a time holds, kept in Prefect's database.

Prefect's own leases on a global concurrency limit are not used: by default they live in the memory
of one server, and when that restarts the slot stays taken for ever. Here the *existence* of the
limit is the lease: of many processes that create it, one succeeds. The holder increments the
limit's count of slots to show that it lives. A process that sees the count stand still for a whole
term, by its own clock, deletes that limit and creates another.
"""

from collections.abc import Callable
from time import monotonic
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from prefect_executions.prefect.errors import prefect_errors

TERM = 45.0
_BEATS = 1_000_000_000  # the limit's own limit: a renewal is a slot


class Lease:
    """A lease that one process at a time holds.

    Args:
        client: Prefect's.
        name: The name of a global concurrency limit that is used for nothing else.
        term: How many seconds a holder that died blocks the others.
        clock: A monotonic clock, in seconds.

    Two processes can hold it for a moment, when one is suspended for long between reading `held`
    and acting on it. That must do no harm.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        name: str,
        *,
        term: float = TERM,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client = client
        self._name = name
        self._term = term
        self._clock = clock
        self._id: UUID | None = None
        self._renewed = 0.0
        self._seen: tuple[UUID, int] | None = None  # another holder's id and count
        self._seen_at = 0.0

    @property
    def held(self) -> bool:
        """Whether this process holds it, for at least a third of a term more."""
        return self._id is not None and self._clock() < self._renewed + self._term * 2 / 3

    def hold(self) -> bool:
        """Take it, or renew it when that is due. Call this several times in a term.

        Raises:
            PrefectUnavailable: it could not be taken or renewed; it may still be `held`.
        """
        if self._id is not None and self._clock() < self._renewed + self._term / 5:
            return True
        with prefect_errors():
            if self._id is not None:
                self._renew(self._id)
            else:
                self._take()
        return self.held

    def release(self) -> None:
        """Let another process take it at once.

        Raises:
            PrefectUnavailable: it blocks the others until its term ends.
        """
        own, self._id = self._id, None
        if own is not None:
            with prefect_errors():
                self._delete(own)

    def _renew(self, own: UUID) -> None:
        asked = self._clock()
        answer = self._client.increment_concurrency_slots([self._name], 1, "concurrency")
        if [UUID(limit["id"]) for limit in answer.json()] == [own]:
            self._renewed = asked
        else:
            self._id = None

    def _take(self) -> None:
        try:
            limit = self._client.read_global_concurrency_limit_by_name(self._name)
        except ObjectNotFound:
            self._create()
            return
        sign, now = (limit.id, limit.active_slots), self._clock()
        if sign != self._seen:
            self._seen, self._seen_at = sign, now
        elif now - self._seen_at >= self._term and self._delete(limit.id):
            self._create()

    def _create(self) -> None:
        asked = self._clock()
        limit = GlobalConcurrencyLimitCreate(name=self._name, limit=_BEATS, active_slots=1)
        try:
            self._id = self._client.create_global_concurrency_limit(limit)
        except ObjectAlreadyExists:
            return
        self._renewed = asked

    def _delete(self, id_: UUID) -> bool:
        """Delete the limit. Returns False when another process was quicker."""
        try:
            # By its id, which Prefect accepts as a name: a limit of this name may be newer.
            self._client.delete_global_concurrency_limit_by_name(str(id_))
        except ObjectNotFound:
            return False
        return True
