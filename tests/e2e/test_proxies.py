"""The service behind a proxy that ends TLS, which `FORWARDED_ALLOW_IPS` names or not."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from select import select

import httpx
import pytest

from rest import KEY
from world import World

TRUSTED, UNTRUSTED = "127.1.2.3", "127.0.0.9"  # see the environment of `stack`


@contextmanager
def proxy(world: World, address: str) -> Iterator[httpx.Client]:
    """A client that speaks from an address of this machine, as a proxy in front of the service."""
    transport = httpx.HTTPTransport(local_address=address)
    headers = {"X-Forwarded-For": "192.0.2.77"}
    with httpx.Client(transport=transport, base_url=world.rest.base_url, headers=headers) as client:
        yield client


@pytest.mark.parametrize(
    ("address", "scheme", "is_secure"),
    [(TRUSTED, "https", True), (TRUSTED, "http", False), (UNTRUSTED, "https", False)],
)
def test_the_cookie_is_secure_where_a_trusted_proxy_says_https(
    world: World, address: str, scheme: str, is_secure: bool
) -> None:
    with proxy(world, address) as client:
        answer = client.post("/ui/login", data={"key": KEY}, headers={"X-Forwarded-Proto": scheme})

    assert answer.status_code == 303
    assert ("Secure" in answer.headers["set-cookie"].split("; ")) is is_secure


def test_wrong_keys_are_counted_for_the_address_that_a_trusted_proxy_names(world: World) -> None:
    def left(address: str, caller: str) -> int:
        """How many wrong keys the sender may still send, after one more."""
        wrong = {"Authorization": "Bearer pxk_wrong", "X-Forwarded-For": caller}
        with proxy(world, address) as client:
            answer = client.get("/v1/execution", headers=wrong)
        assert answer.status_code == 401
        return int(answer.headers["ratelimit-remaining"])

    assert left(TRUSTED, "192.0.2.1") == left(TRUSTED, "192.0.2.2")
    assert left(TRUSTED, "192.0.2.1") < left(TRUSTED, "192.0.2.3")
    assert left(UNTRUSTED, "192.0.2.4") > left(UNTRUSTED, "192.0.2.5")


def test_an_idle_connection_is_kept_for_longer_than_its_client_keeps_it(world: World) -> None:
    url = world.rest.base_url
    idle = httpx.Limits().keepalive_expiry or 0.0
    with closing(HTTPConnection(url.host, url.port or 80)) as connection:
        connection.request("GET", "/health")
        assert connection.getresponse().read()

        closed, _, _ = select([connection.sock], [], [], idle + 2)

        assert not closed
