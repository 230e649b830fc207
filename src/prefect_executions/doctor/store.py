"""Whether the store is there, lets this machine in, keeps conditional writes, and is ours."""

from datetime import UTC, datetime

from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.doctor.finding import Finding, Grade, right, wrong
from prefect_executions.errors import (
    CorruptEntry,
    ForeignStore,
    PrefectUnavailable,
    StoreNotFound,
    StoreUnavailable,
    UnsuitableStore,
)
from prefect_executions.prefect.server import Skew
from prefect_executions.storage.objects import Objects, Remote
from prefect_executions.storage.probe import probe
from prefect_executions.stores import owner
from prefect_executions.stores.store import DEFAULT, ExecutionStore, load_store

STORE = "store"
_SECONDS = 6.0  # for one request to the store
_CREATE = "prefect-executions store create --bucket BUCKET"


def check_store(client: SyncPrefectClient, name: str) -> tuple[Finding, Skew | None]:
    """Check a store, and read its clock, where it has one of its own."""
    where = f"Execution Store {name!r}"
    create = _CREATE if name == DEFAULT else f"{_CREATE} --name {name}"
    other = f"{create} --overwrite"
    try:
        store = load_store(name)
    except StoreNotFound as error:
        return wrong(STORE, where, f"{error}", create), None
    except PrefectUnavailable as error:
        return wrong(STORE, where, f"it can't be read: {error}", "prefect-executions doctor"), None
    except ValueError as error:  # another version has saved it, or another class
        return wrong(STORE, where, f"the block can't be used: {error}", other), None
    where = f"{where}, {store.place}"
    try:
        objects = store.objects()
    except UnsuitableStore as error:
        return wrong(STORE, where, f"{error}", other), None
    if isinstance(objects, Remote):
        objects = objects.hurried(_SECONDS)
    finding = _check(store, objects, client, where, other)
    return finding, None if finding.grade is Grade.WRONG else _skew_of(objects)


def _check(
    store: ExecutionStore, objects: Objects, client: SyncPrefectClient, where: str, other: str
) -> Finding:
    """Check the objects of a store; `other` is the command that saves another one."""
    try:
        probe(objects)
        owner.require_ours(objects, client)
    except StoreUnavailable as error:
        what = f"it could not {error.operation}: {error.problem}"
        return wrong(STORE, where, what, error.mend or f"if the address is wrong: {other}")
    except UnsuitableStore as error:
        return wrong(STORE, where, f"{error}", other)
    except (ForeignStore, CorruptEntry) as error:
        return wrong(STORE, where, f"{error}", "prefect-executions gc --adopt")
    except PrefectUnavailable as error:
        return wrong(STORE, where, f"whose it is can't be told: {error}", "prefect server start")
    what = "it answers, lets this machine in, and keeps conditional writes."
    return right(STORE, where, what if store.notice is None else f"{what} {store.notice}")


def _skew_of(objects: Objects) -> Skew | None:
    """The clock of a store, where it has one of its own."""
    if not isinstance(objects, Remote):
        return None
    try:
        asked = datetime.now(UTC)
        date = objects.read_date()
        return Skew.measured(asked, datetime.now(UTC), date)
    except StoreUnavailable:  # it was there a moment ago: the next check-up will say more
        return None
