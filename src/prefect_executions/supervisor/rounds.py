"""Rounds: all runs of a kind are looked at, one page in each look."""

from collections.abc import Callable, Iterable
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from prefect_executions.prefect.listing import Walk


class Rounds:
    """One round after another through all runs of a kind, a page at a time.

    So a look costs one request, however many runs there are; what is to be done quickly is found
    otherwise, by what has changed.

    Args:
        begin: Makes the walk of a new round.
    """

    def __init__(self, begin: Callable[[], Walk]) -> None:
        self._begin = begin
        self._walk: Walk | None = None
        self._unseen: set[UUID] = set()  # known when the round began, and not seen in it yet

    @property
    def is_new(self) -> bool:
        """Whether a round has just ended, or none has begun."""
        return self._walk is None

    def next(self, known: Iterable[UUID]) -> tuple[list[FlowRun], set[UUID]]:
        """The next page of the round; and what is no more.

        Args:
            known: The runs of the kind that are known.

        Returns:
            The page; and after the last of the round those runs that were known when it began,
            and were on none of its pages: they have changed, or were deleted.

        Raises:
            PrefectUnavailable: Prefect does not answer; the page is read by the next call.
        """
        if self._walk is None:
            self._walk, self._unseen = self._begin(), set(known)
        page = self._walk.next()
        self._unseen.difference_update(run.id for run in page)
        if not self._walk.is_over:
            return page, set()
        self._walk, unseen = None, self._unseen
        self._unseen = set()
        return page, unseen
