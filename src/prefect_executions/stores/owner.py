"""Whose a store is: it belongs to one Prefect, which a marker in it names.

A log without a flow run is taken for one that is left over, so two Prefects that share a bucket
and a prefix would remove each other's. The first Prefect that uses a store creates the marker, on
the condition that there is none.

A Prefect is known by its database, and that by the id of the block type Execution Store: Prefect
draws it at random when the type comes to a database, and never changes it. A copy of a database has
the same id, so it counts as the same Prefect.
"""

from contextlib import suppress

import orjson
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.errors import AlreadyExists, CorruptEntry, ForeignStore
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.storage.objects import Objects

KEY = "owner"  # keys of logs have slashes
_TYPE = "execution-store"
_FORMAT = 1


def claim(objects: Objects, client: SyncPrefectClient) -> None:
    """Make a store that of a Prefect, if it is nobody's; a GET, and for a new store a PUT.

    Args:
        objects: The store.
        client: A client of the Prefect, which has the block type Execution Store.

    Raises:
        ForeignStore: It belongs to another Prefect.
        StoreUnavailable, PrefectUnavailable: One of them does not answer.
    """
    here = _id_of(client)
    owner = _owner(objects)
    if owner is None:
        with suppress(AlreadyExists):  # by this Prefect or another one, just now
            objects.create(KEY, orjson.dumps({"v": _FORMAT, "prefect": here}))
        owner = _owner(objects)
    if owner != here:
        raise ForeignStore(f"{owner}", here)


def require_ours(objects: Objects, client: SyncPrefectClient) -> None:
    """Check that a store is a Prefect's, or nobody's, and leave it as it is.

    Raises:
        ForeignStore: It belongs to another Prefect.
        StoreUnavailable, PrefectUnavailable: One of them does not answer.
    """
    if (owner := _owner(objects)) is not None and owner != (here := _id_of(client)):
        raise ForeignStore(owner, here)


def adopt(objects: Objects, client: SyncPrefectClient) -> None:
    """Take a store over, whosever it is; what uses it for another Prefect must have been stopped.

    Raises:
        ForeignStore: Another Prefect has taken it over at the same time.
        StoreUnavailable, PrefectUnavailable: One of them does not answer.
    """
    objects.delete([KEY])
    claim(objects, client)


def _id_of(client: SyncPrefectClient) -> str:
    with prefect_errors():
        return f"{client.read_block_type_by_slug(_TYPE).id}"


def _owner(objects: Objects) -> str | None:
    data = objects.get([KEY]).get(KEY)
    if data is None:
        return None
    try:
        marker = orjson.loads(data)
        if marker["v"] != _FORMAT:
            raise CorruptEntry(KEY, f"it has format {marker['v']}, and this version reads 1.")
        return str(marker["prefect"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptEntry(KEY, f"it is no marker ({error!r}).") from error
