"""The errors that a newcomer meets: each says what is wrong, where, and what mends it."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from pydantic import BaseModel

from prefect_executions import execution
from prefect_executions.client.profiles import find
from prefect_executions.doctor.finding import Finding
from prefect_executions.doctor.service import check_service, check_supervisors
from prefect_executions.doctor.workers import check_workers
from prefect_executions.errors import (
    ExecutionError,
    NotAnExecution,
    StoreNotFound,
    StoreRefused,
    StoreUnavailable,
    UnsuitableDeployment,
    UnsuitableStore,
)
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.local import Stack, free_ports
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.objects import MemoryObjects, Objects
from prefect_executions.stores.store import ExecutionStore, load_store
from prefect_executions.testkit import TestKit
from serving import served


class Overwriting(MemoryObjects):
    """A store without conditional writes."""

    def create(self, key: str, data: bytes) -> None:
        self._data[key] = data


class OverwritingStore(ExecutionStore):
    _block_type_name = "Overwriting Store"

    def objects(self) -> Objects:
        return Overwriting()


class Notes(BaseModel):
    done: list[str] = []


@flow
def plain() -> None:
    execution.current()


@flow
@execution(state=Notes)
def noting() -> None: ...


@flow
@execution
def deployed(n: int = 0) -> None: ...


class Newcomer:
    """What a newcomer has: Prefect, an S3 server, and a mistake."""

    def __init__(self, stack: Stack, prefect: SyncPrefectClient) -> None:
        self.stack = stack
        self.prefect = prefect

    def store(self, **fields: str) -> ExecutionStore:
        return self.stack.s3.store().model_copy(update=fields)

    def no_store(self) -> None:
        load_store("nowhere")

    def wrong_bucket(self) -> None:
        self.store(bucket="no-such-bucket").save("mine", _sync=True)

    def wrong_key(self) -> None:
        self.store(aws_access_key_id="nobody").save("mine", _sync=True)

    def wrong_address(self) -> None:
        self.store(endpoint_url=f"http://127.0.0.1:{free_ports(1)}").save("mine", _sync=True)

    def wrong_bucket_in_a_flow(self) -> None:
        """The block was saved in the UI, and so not checked: a flow finds it out."""
        self.store(bucket="no-such-bucket").objects().get(["some/key"])

    def no_conditional_writes(self) -> None:
        OverwritingStore(bucket="some-bucket").save("mine", _sync=True)

    def no_execution(self) -> None:
        plain()

    def not_deployed_as_execution(self) -> None:
        id_ = plain.to_deployment(uuid4().hex).apply()
        executions = Executions(MemoryObjects(), FlowRuns(self.prefect, store=uuid4().hex))
        Creation(executions).create(name="a", deployment=f"{id_}", parameters={})

    def no_worker(self) -> Finding:
        pool = f"idle-{uuid4().hex[:6]}"
        self.prefect.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        deployed.to_deployment(pool, work_pool_name=pool, entrypoint_type="MODULE_PATH").apply()
        (found,) = [each for each in check_workers(self.prefect) if pool in each.where]
        return found

    def no_supervisor(self) -> Finding:
        settings = ExecutionsSettings(store=f"store-{uuid4().hex[:6]}")
        return check_supervisors(self.prefect, settings, None)[0]

    def no_service(self) -> Finding:
        return check_service(find(f"http://127.0.0.1:{free_ports(1)}"))

    def no_key(self) -> Finding:
        with served(self.prefect, MemoryObjects(), store=uuid4().hex) as url:
            return check_service(find(url))


@pytest.fixture
def world(stack: Stack, monkeypatch: pytest.MonkeyPatch, quick: None) -> Iterator[Newcomer]:
    monkeypatch.delenv("PREFECT_EXECUTIONS_API_KEY", raising=False)
    with get_client(sync_client=True) as prefect:
        yield Newcomer(stack, prefect)


STORE_CREATE = "`prefect-executions store create"


@pytest.mark.parametrize(
    ("meet", "kind", "what", "where", "mend"),
    [
        (Newcomer.no_store, StoreNotFound, "no Execution Store block", "'nowhere'", STORE_CREATE),
        (
            Newcomer.wrong_bucket,
            StoreRefused,
            "NoSuchBucket",
            "'no-such-bucket'",
            "`aws s3 mb s3://",
        ),
        (Newcomer.wrong_bucket, StoreRefused, "NoSuchBucket", "'mine'", STORE_CREATE),
        (Newcomer.wrong_key, StoreRefused, "InvalidAccessKeyId", "'executions'", STORE_CREATE),
        (Newcomer.wrong_address, StoreUnavailable, "connect", "http://127.0.0.1:", STORE_CREATE),
        (
            Newcomer.wrong_bucket_in_a_flow,
            StoreRefused,
            "could not read",
            "'no-such-bucket'",
            STORE_CREATE,
        ),
        (
            Newcomer.no_conditional_writes,
            UnsuitableStore,
            "concurrent creators",
            "'some-bucket'",
            STORE_CREATE,
        ),
        (Newcomer.no_execution, NotAnExecution, "no execution", "test_first_errors.py:", "`@flow`"),
        (
            Newcomer.not_deployed_as_execution,
            UnsuitableDeployment,
            "not known as an execution",
            "test_first_errors",
            "`prefect deploy`",
        ),
        (
            Newcomer.no_worker,
            None,
            "no worker polls",
            "'idle-",
            "prefect worker start --pool idle-",
        ),
        (Newcomer.no_supervisor, None, "none is alive", "'store-", "prefect-executions serve"),
        (Newcomer.no_service, None, "no service answers", "http://127.0.0.1:", "export PREFECT_"),
        (Newcomer.no_key, None, "key", "http://127.0.0.1:", "prefect-executions keys create"),
    ],
)
def test_an_error_says_what_is_wrong_and_where_and_what_mends_it(
    world: Newcomer,
    meet: Callable[[Newcomer], Finding | None],
    kind: type[ExecutionError] | None,
    what: str,
    where: str,
    mend: str,
) -> None:
    if kind is None:
        found = meet(world)
        assert found is not None
        said = f"{found.where}: {found.what} {found.mend}"
    else:
        with pytest.raises(kind) as error:
            meet(world)
        said = f"{error.value}"

    assert what in said
    assert where in said
    assert mend in said


def test_a_state_that_does_not_fit_names_its_field_and_the_way_back(kit: TestKit) -> None:
    trial = kit.start(noting, state={"done": "a text, in the code of yesterday"})

    said = f"{trial.get().prefect.message}"
    assert "state.done: does not fit Notes" in said
    assert "prefect-executions checkpoints exec_" in said
    assert f"`prefect-executions resume {trial.id} --checkpoint-id" in said
