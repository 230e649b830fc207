"""One signed POST to a URL that a user chose, without access to private networks.

The host's name is resolved once, every address is checked, and the connection goes to one of the
checked addresses, so a name that resolves differently a moment later gains nothing. Redirects are
not followed, and proxies are not used.
"""

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from time import monotonic
from typing import Any

import httpcore
import httpx
from standardwebhooks import Webhook

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")

# Not of the public network, though `is_global` takes them for that, in some versions of Python:
# IANA's registries of special-purpose addresses, and what a cloud answers its own machines with.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments; Oracle's cloud answers at 192.0.0.192
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure
        "64:ff9b:1::/48",  # NAT64 of a local network
        "::ffff:0:0:0/96",  # IPv4, translated
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
    )
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Iterable[str]]


class Undelivered(Exception):
    """There was no answer; the message may or may not have arrived."""


def is_public(address: str) -> bool:
    """Whether an IP address is a public one, in any notation."""
    ip = _plain(ipaddress.ip_address(address))
    return ip.is_global and not (
        ip.is_multicast
        or ip.is_reserved
        or ip.is_unspecified
        or ip.is_loopback
        or ip.is_link_local
        or getattr(ip, "is_site_local", False)
        or any(ip in network for network in _SPECIAL)
    )


def _plain(ip: Address) -> Address:
    """The IPv4 address that is embedded in an IPv6 address, or else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64 or ip in _IPV4_COMPATIBLE:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in the system's order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def post(
    url: str,
    *,
    message_id: str,
    body: str,
    secret: str,
    timeout: float,
    may_reach: Callable[[str], bool] = is_public,
    resolve: Resolve = resolve,
    tls: ssl.SSLContext | None = None,
) -> int:
    """Post a message, signed in the format of Standard Webhooks, and return the answer's status.

    The answer's body is not read.

    Args:
        url: The receiver.
        message_id: Identifies the message when it is posted again.
        body: JSON.
        secret: `whsec_…`.
        timeout: Seconds for the whole exchange, after the name is resolved.
        may_reach: Whether an address may be connected to.
        resolve: Returns the addresses of a host and port.
        tls: Checks the receiver's certificate; by default against the usual authorities.

    Raises:
        Undelivered: no answer came, or the address may not be reached.
    """
    now = datetime.now(UTC)
    headers = [
        ("content-type", "application/json"),
        ("user-agent", "prefect-executions"),
        ("webhook-id", message_id),
        ("webhook-timestamp", str(int(now.timestamp()))),
        ("webhook-signature", Webhook(secret).sign(message_id, now, body)),
    ]
    parsed = httpx.URL(url)
    target = httpcore.URL(
        scheme=parsed.raw_scheme,
        host=parsed.raw_host,
        port=parsed.port,
        target=parsed.raw_path,
    )
    network = _Network(timeout, may_reach, resolve)
    try:
        with (
            httpcore.HTTPConnection(
                target.origin,
                ssl_context=tls or (_tls() if parsed.scheme == "https" else None),
                network_backend=network,
            ) as connection,
            connection.stream("POST", target, headers=headers, content=body.encode()) as answer,
        ):
            return answer.status
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise Undelivered(f"{type(error).__name__}: {error}") from error


@cache  # it reads more than a hundred certificates
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


class _Network(httpcore.NetworkBackend):
    """Connects to checked addresses, with one time-out for the whole exchange."""

    def __init__(self, timeout: float, may_reach: Callable[[str], bool], resolve: Resolve) -> None:
        self._timeout = timeout
        self._may_reach = may_reach
        self._resolve = resolve
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  # ours is for the whole exchange
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = list(self._resolve(host, port))
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name can't be resolved: {error}") from error
        for address in addresses:
            if not self._may_reach(address):
                raise httpcore.ConnectError(
                    f"{address} is not a public address, and the block does not allow others"
                )
        ends = monotonic() + self._timeout
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                stream = self._network.connect_tcp(
                    address, port, _left(ends), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, ends)
        raise failure


class _Stream(httpcore.NetworkStream):
    """A stream with a deadline: httpcore's own time-outs restart with each byte."""

    def __init__(self, inner: httpcore.NetworkStream, ends: float) -> None:
        self._inner = inner
        self._ends = ends

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._inner.read(max_bytes, _left(self._ends))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._inner.write(buffer, _left(self._ends))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, _left(self._ends))
        return _Stream(inner, self._ends)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(ends: float) -> float:
    """The seconds until a deadline; never 0, which a socket takes for `do not wait`."""
    left = ends - monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("no answer in time")
    return left
