"""The requests of each caller are limited."""

from collections.abc import Generator
from concurrent.futures import Future

import pytest
from prefect.client.orchestration import SyncPrefectClient

from guarded import NOWHERE, SETTINGS_KEY, Known, client_of, guarded
from prefect_executions.blocks.key import ANYBODY, Caller
from prefect_executions.local import free_ports
from prefect_executions.service.app import Limits
from prefect_executions.service.middleware.rate_limit import Rates
from prefect_executions.storage.objects import MemoryObjects
from rest import assert_problem, opened


@pytest.fixture(scope="module")
def nowhere() -> SyncPrefectClient:
    return SyncPrefectClient(f"http://127.0.0.1:{free_ports(1)}/api")


def test_too_many_requests_are_429_and_say_when_to_come_back(keyring: Known) -> None:
    client = client_of(guarded(keyring, rate="3/hour"), "reader")

    answers = [client.get("/who") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"3"}
    assert all(0 < int(answer.headers["RateLimit-Reset"]) <= 3600 for answer in answers)
    assert_problem(answers[-1], 429, "rate_limited")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 3600


def test_each_key_has_its_own_requests(keyring: Known) -> None:
    app = guarded(keyring, rate="1/hour")

    assert client_of(app, "reader").get("/who").status_code == 200
    assert client_of(app, "reader", "192.0.2.9").get("/who").status_code == 429
    assert client_of(app, "writer").get("/who").status_code == 200


def test_a_limit_of_its_own_stands_over_the_common_one(keyring: Known) -> None:
    client = client_of(guarded(keyring, rate="1/hour"), "slow")

    assert [client.get("/who").status_code for _ in range(3)] == [200, 200, 429]


def test_without_keys_addresses_are_counted(keyring: Known) -> None:
    class Open(Known):
        def identify(self, _: str | None) -> Generator[Future[None], None, Caller | None]:
            yield from ()
            return ANYBODY

    app = guarded(Open(NOWHERE, api_key=None), rate="1/hour")

    def status(address: str) -> int:
        return client_of(app, address=address).get("http://localhost/who").status_code

    assert [status("192.0.2.1"), status("192.0.2.1"), status("::ffff:192.0.2.1")] == [200, 429, 429]
    assert status("192.0.2.2") == 200
    assert [status("2001:db8::1"), status("2001:db8::2")] == [200, 429]
    assert status("2001:db8:0:1::1") == 200


def test_health_is_not_limited(keyring: Known) -> None:
    client = client_of(guarded(keyring, rate="1/hour"))

    assert {client.get("/health").status_code for _ in range(5)} == {200}


def test_wrong_keys_are_limited_by_address(keyring: Known) -> None:
    app = guarded(keyring, failures="3/hour")
    client = client_of(app, "wrong")

    answers = [client.get("/who") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert answers[0].headers["RateLimit-Remaining"] == "2"
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"
    assert_problem(answers[-1], 429, "rate_limited")
    assert_problem(client_of(app, "wrong", "192.0.2.9").get("/who"), 401, "unauthorized")


def test_who_guesses_too_often_is_not_told_that_a_guess_is_right(keyring: Known) -> None:
    """Keys that cannot be guessed still work: others may share the address."""
    app = guarded(keyring, failures="3/hour")
    for n in range(4):
        client_of(app, f"guess {n}").get("/who")

    wrong, right = (client_of(app, key).get("/who") for key in ("guess 5", SETTINGS_KEY))

    assert_problem(right, 429, "rate_limited")
    assert right.json() == wrong.json()
    assert set(right.headers) == set(wrong.headers)
    assert client_of(app, "reader").get("/who").status_code == 200
    assert client_of(app, SETTINGS_KEY, "192.0.2.9").get("/who").status_code == 200


def test_a_right_key_uses_up_no_guesses(keyring: Known) -> None:
    app = guarded(keyring, failures="1/hour")
    client = client_of(app, SETTINGS_KEY)

    assert {client.get("/who").status_code for _ in range(5)} == {200}
    assert client_of(app, "wrong").get("/who").status_code == 401


@pytest.mark.parametrize("limit", ["0/minute", "often", ""])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Rates(limit)


def test_a_limit_of_all_together_that_can_not_be_counted_stops_nobody(
    nowhere: SyncPrefectClient, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("redis", reason="the driver of Redis is not installed")
    away = f"redis://127.0.0.1:{free_ports(1)}"
    with opened(nowhere, MemoryObjects(), limits=Limits(rate_storage=away)) as client:
        answer = client.get("/openapi.json")

    assert answer.status_code == 200
    assert "can't be counted" in caplog.text
