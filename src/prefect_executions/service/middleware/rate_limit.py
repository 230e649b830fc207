"""How often callers may come: requests per time, counted by the library `limits`."""

import logging
import math
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from limits import RateLimitItem, parse
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Send

from prefect_executions.service.problems import problem

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quota:
    """Where a caller stands.

    Args:
        limit: How many requests it has in a window of time.
        remaining: How many are left.
        reset: In how many seconds there are more.
        refused: Whether this one was too many.
    """

    limit: int
    remaining: int
    reset: int
    refused: bool

    @property
    def headers(self) -> dict[str, str]:
        """What the caller is told."""
        return {
            "RateLimit-Limit": f"{self.limit}",
            "RateLimit-Remaining": f"{self.remaining}",
            "RateLimit-Reset": f"{self.reset}",
        }

    def refusal(self) -> Response:
        """The answer to a request too many."""
        return problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "rate_limited",
            f"There were more than {self.limit} requests; try again in {self.reset} s.",
            headers={**self.headers, "Retry-After": f"{self.reset}"},
        )

    def told_by(self, send: Send) -> Send:
        """Tell the caller with whatever the answer is."""

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        return telling


class Rates:
    """Counts requests by who sends them.

    Args:
        limit: How many each may send, as in `6000/minute`.
        storage: Where they are counted: `memory://`, or `redis://…` for several replicas together.

    Raises:
        ValueError: the limit is none.
        limits.errors.ConfigurationError: the storage is none, or its driver is not installed.
    """

    def __init__(self, limit: str, storage: str = "memory://") -> None:
        self._limit = parse(limit)
        if self._limit.amount < 1:
            raise ValueError(f"rate_limit: {limit!r} lets nobody in; give 1 request at least.")
        options: dict[str, Any] = {}
        if storage.startswith("redis"):
            options = {"implementation": "redispy", "socket_timeout": 1}
            options["socket_connect_timeout"] = 1
        kept: Any = storage_from_string(f"async+{storage}", wrap_exceptions=True, **options)
        assert isinstance(kept, Storage)
        self._limiter = SlidingWindowCounterRateLimiter(kept)

    async def hit(self, who: str, own: str | None = None) -> Quota:
        """Count one request; one that can't be counted may pass.

        Args:
            who: Who sends it.
            own: A limit of its own.
        """
        item: RateLimitItem = parse(own) if own else self._limit
        try:
            granted = await self._limiter.hit(item, who)
            stats = await self._limiter.get_window_stats(item, who)
        except StorageError as error:
            logger.warning("Requests can't be counted, and so are not limited: %s", error)
            return Quota(item.amount, item.amount, 1, refused=False)
        reset = max(math.ceil(stats.reset_time - time.time()), 1)
        return Quota(item.amount, stats.remaining, reset, refused=not granted)
