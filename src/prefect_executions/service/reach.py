"""Prefect and the store, as the service reaches them: no caller waits long for one that is away."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.circuit import Circuit
from prefect_executions.errors import PrefectUnavailable, StoreUnavailable
from prefect_executions.prefect.client import patient_client
from prefect_executions.storage.objects import Objects
from prefect_executions.stores.store import ExecutionStore

_SHARE = 0.9  # of the time that an answer may take; the rest is for all else


@dataclass(frozen=True)
class Reach:
    """What the service needs.

    Args:
        client: Prefect's client.
        objects: The store.
        circuits: The circuit of each, by the name that `/health` uses.
    """

    client: SyncPrefectClient
    objects: Objects
    circuits: Mapping[str, Circuit]


@contextmanager
def reached(
    store: ExecutionStore,
    seconds: float,
    *,
    metered: Callable[[Objects], Objects] = lambda objects: objects,
) -> Iterator[Reach]:
    """Reach the Prefect server in the settings, and a store.

    Args:
        store: The store.
        seconds: Within how many seconds a call to one that is away is to be answered.
        metered: Makes of the store one whose requests are counted.
    """
    with ExitStack() as stack:
        to_prefect = Circuit(
            "Prefect",
            seconds * _SHARE,
            error=PrefectUnavailable,
            ask=lambda: client.read_flows(limit=1),
        )
        to_store = Circuit(
            "the store",
            seconds * _SHARE,
            error=partial(StoreUnavailable, "be asked"),
            ask=lambda: next(objects.scan("", limit=1), None),
        )
        stack.callback(to_prefect.close)
        stack.callback(to_store.close)
        client = stack.enter_context(patient_client(to_prefect))
        objects = metered(store.open(to_store))
        yield Reach(client, objects, {"store": to_store, "prefect": to_prefect})
