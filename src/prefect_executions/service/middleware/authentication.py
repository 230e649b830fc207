"""Checks the key of a request, and counts the requests of its caller."""

import asyncio
import ipaddress
from collections.abc import Collection
from http import HTTPStatus
from time import monotonic
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from prefect_executions.addresses import is_loopback
from prefect_executions.blocks.key import ANYBODY, SETTINGS, Caller
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.service.keyring import PATIENCE_SECONDS, Keyring
from prefect_executions.service.middleware.rate_limit import Quota, Rates
from prefect_executions.service.problems import problem, unavailable

_NO_KEY = "Send a key of the service as `Authorization: Bearer …` or `x-api-key: …`."
_UNKNOWN_KEY = "The service does not know the key that was sent: it is wrong, or was revoked."


class Authentication:
    """Let only requests with a known key pass, within the rate limit of their caller.

    Wrong keys are limited by address, so that keys cannot be guessed. From an address with too many
    of them, the key in the settings is refused as well: people choose that key, and the answer must
    not reveal that a guess was right. The other keys are too long to be guessed, so they still work
    for others behind the same proxy.

    Behind a proxy, all addresses are the proxy's, unless uvicorn trusts its `X-Forwarded-For`
    (`FORWARDED_ALLOW_IPS`).

    Args:
        app: The application.
        keyring: The keys.
        rates: Counts requests.
        open_paths: The paths that need no key and have no limit.
        failures: How many wrong keys an address may send, as in `300/minute`; by default as many
            as a caller may send requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keyring: Keyring,
        rates: Rates,
        open_paths: Collection[str],
        failures: str | None = None,
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._rates = rates
        self._open_paths = frozenset(open_paths)
        self._failures = failures
        self._barred: dict[str, tuple[float, Quota]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan" or scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route is of another type
            await send({"type": "websocket.close", "code": 1008})
            return
        address = _address_of(scope)
        caller: Caller | None
        try:
            caller = await identified(self._keyring, secret_of(scope))
        except PrefectUnavailable as error:
            await unavailable(scope, error)(scope, receive, send)
            return
        quota = await self._hit(caller, address)
        if quota.refused:
            await quota.refusal()(scope, receive, send)
            return
        if caller is None:
            refusal = problem(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                _NO_KEY if secret_of(scope) is None else _UNKNOWN_KEY,
                headers={"WWW-Authenticate": "Bearer", **quota.headers},
            )
            await refusal(scope, receive, send)
            return
        if caller is ANYBODY and not _is_local(scope):
            refusal = problem(
                HTTPStatus.FORBIDDEN,
                "forbidden",
                "Without a key the service only answers to localhost, lest a page of the web calls "
                "it under a name of its own. Make one by `prefect-executions keys create`.",
            )
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, quota.add_headers(send))

    async def _hit(self, caller: Caller | None, address: str) -> Quota:
        """Count a request; None is a caller with a wrong key."""
        if caller is None:
            quota = await self._rates.hit(f"failed {address}", self._failures)
            if quota.refused:
                now = monotonic()
                self._barred = {key: bar for key, bar in self._barred.items() if bar[0] > now}
                self._barred[address] = (now + quota.reset, quota)
            return quota
        if caller is ANYBODY:
            return await self._rates.hit(f"address {address}")
        until, barred = self._barred.get(address, (0.0, None))
        if caller is SETTINGS and barred is not None and monotonic() < until:
            return barred
        return await self._rates.hit(f"key {caller.name}", caller.rate_limit)


def _address_of(scope: Scope) -> str:
    host = str((scope.get("client") or ["unknown"])[0])
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return f"{address.ipv4_mapped}"
    # A sender with one IPv6 address has all addresses of its network of 64 bits.
    return f"{ipaddress.IPv6Network((int(address), 64), strict=False)}"


def _is_local(scope: Scope) -> bool:
    """Whether the `Host` of a request is this machine: browsers send the name of the page."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def secret_of(scope: Scope) -> str | None:
    """The key in a request."""
    headers = dict(scope["headers"])
    kind, _, given = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() != b"bearer":
        given = headers.get(b"x-api-key", b"")
    return given.strip().decode("utf-8", "surrogateescape") or None


async def identified(keyring: Keyring, secret: str | None) -> Caller | None:
    """Do what `Keyring.caller` does, without blocking the event loop."""
    steps = keyring.identify(secret)
    try:
        while True:
            await asyncio.wait([asyncio.wrap_future(next(steps))], timeout=PATIENCE_SECONDS)
    except StopIteration as done:
        found: Caller | None = done.value
        return found
