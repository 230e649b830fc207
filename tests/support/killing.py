"""A caller of the store and of Prefect that is killed after so many requests."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from prefect_executions.storage.objects import Objects

R = TypeVar("R")

_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


class Killed(BaseException):
    """The caller is dead, and all its later requests fail with this."""


@dataclass
class Caller:
    """Counts the requests of one process, and kills it after some of them.

    Once it is dead no request passes, so what it does in `finally` has no effect. To the servers
    "killed after a request" and "killed before the next one" are the same.

    Args:
        dies_after: How many requests are carried out before it dies, or None when it never dies.
        counting: Whether its requests count; otherwise they just pass.
        requests: The requests it has made.
    """

    dies_after: int | None = None
    counting: bool = True
    requests: list[str] = field(default_factory=list)

    def ask(self, request: str, perform: Callable[[], R]) -> R:
        if not self.counting:
            return perform()
        self._die_if_due()
        self.requests.append(request)
        try:
            return perform()
        finally:
            self._die_if_due()

    @property
    def is_dead(self) -> bool:
        return len(self.requests) == self.dies_after

    def _die_if_due(self) -> None:
        if self.is_dead:
            raise Killed


@dataclass(frozen=True)
class CalledObjects:
    """The store of a caller."""

    inner: Objects
    caller: Caller

    def create(self, key: str, data: bytes) -> None:
        self.caller.ask("store: create", lambda: self.inner.create(key, data))

    def get(
        self, keys: Iterable[str], *, first: int | None = None, skip: int = 0
    ) -> dict[str, bytes]:
        return self.caller.ask("store: get", lambda: self.inner.get(keys, first=first, skip=skip))

    def scan(self, prefix: str, *, limit: int | None = None) -> Iterator[str]:
        return iter(self.caller.ask("store: scan", lambda: [*self.inner.scan(prefix, limit=limit)]))

    def measure(self, prefix: str) -> tuple[int, int]:
        return self.caller.ask("store: measure", lambda: self.inner.measure(prefix))

    def delete(self, keys: Iterable[str]) -> None:
        self.caller.ask("store: delete", lambda: self.inner.delete(keys))


class CalledTransport(httpx.BaseTransport):
    """A caller's transport to a server. Closing it closes nothing."""

    def __init__(self, inner: httpx.BaseTransport, caller: Caller) -> None:
        self._inner = inner
        self._caller = caller

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = f"Prefect: {request.method} {_IDS.sub('…', request.url.path)}"
        return self._caller.ask(name, lambda: self._perform(request))

    def _perform(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        response.read()  # otherwise the connection is not given back when the caller dies now
        return response
