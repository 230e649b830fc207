"""A lease that one process at a time holds, in a real Prefect server."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.webhooks.lease import Lease


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def claims(prefect: SyncPrefectClient) -> Callable[[Hands], Lease]:
    name = f"claim-{uuid4().hex}"
    return lambda hands: Lease(prefect, name, term=30, clock=hands)


def test_one_of_many_holds_the_lease(claims: Callable[[Hands], Lease]) -> None:
    leases = [claims(Hands()) for _ in range(4)]

    assert [lease.hold() for lease in leases] == [True, False, False, False]
    assert [lease.held for lease in leases] == [True, False, False, False]


def test_a_lease_that_is_released_is_free_at_once(claims: Callable[[Hands], Lease]) -> None:
    one, other = claims(Hands()), claims(Hands())
    one.hold()
    assert not other.hold()

    one.release()

    assert other.hold()
    assert not one.hold()


def test_a_lease_that_is_renewed_stays(claims: Callable[[Hands], Lease]) -> None:
    hands = Hands()
    one, other = claims(hands), claims(hands)
    for _ in range(20):
        hands.now += 10
        assert one.hold()
        assert not other.hold()


def test_a_holder_that_has_died_blocks_the_others_for_one_term(
    claims: Callable[[Hands], Lease],
) -> None:
    hands = Hands()
    dead, *others = (claims(hands) for _ in range(4))
    dead.hold()
    assert not any(lease.hold() for lease in others)
    hands.now += 29
    assert not any(lease.hold() for lease in others)
    assert not dead.held  # so by then it has stopped delivering, if it lives

    hands.now += 2

    assert [lease.hold() for lease in others] == [True, False, False]
    assert not dead.hold()
    assert others[0].hold()


def test_a_holder_whose_lease_was_deleted_takes_another(
    claims: Callable[[Hands], Lease], prefect: SyncPrefectClient
) -> None:
    """Anybody may delete it in the UI."""
    hands = Hands()
    lease = claims(hands)
    lease.hold()
    prefect.delete_global_concurrency_limit_by_name(lease._name)
    hands.now += 10

    assert not lease.hold()
    assert lease.hold()
