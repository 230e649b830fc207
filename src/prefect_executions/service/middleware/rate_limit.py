"""Rate limits: requests per time, counted by the library `limits`."""

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
    """The quota of a caller, after a request.

    Args:
        limit: How many requests are allowed in a window of time.
        remaining: How many are left.
        reset: In how many seconds more are allowed.
        refused: Whether this request was too many.
    """

    limit: int
    remaining: int
    reset: int
    refused: bool

    @property
    def headers(self) -> dict[str, str]:
        """The headers for the caller."""
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

    def add_headers(self, send: Send) -> Send:
        """Wrap `send` so that the answer has the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        return send_with_headers


class Rates:
    """Counts the requests of each sender.

    Args:
        limit: How many each may send, as in `6000/minute`.
        storage: Where they are counted: `memory://`, or `redis://…` for several replicas together.

    Raises:
        ValueError: The limit is not valid.
        limits.errors.ConfigurationError: The storage is not valid, or its driver is not installed.
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

    async def hit(self, sender: str, own: str | None = None) -> Quota:
        """Count one request; a request that can't be counted is not refused.

        Args:
            sender: The sender.
            own: A limit of its own, in place of the common one.
        """
        item: RateLimitItem = parse(own) if own else self._limit
        try:
            granted = await self._limiter.hit(item, sender)
            stats = await self._limiter.get_window_stats(item, sender)
        except StorageError as error:
            logger.warning("Requests can't be counted, and so are not limited: %s", error)
            return Quota(item.amount, item.amount, 1, refused=False)
        reset = max(math.ceil(stats.reset_time - time.time()), 1)
        return Quota(item.amount, stats.remaining, reset, refused=not granted)
