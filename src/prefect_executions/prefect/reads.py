"""Reading flow runs for many callers at once: those that wait are read together.

While one request is under way, the ids that are asked for gather, and the next request reads them
all. Nothing is kept: each caller gets what was read after it had asked. So a service under load
sends Prefect fewer and larger requests, and a single caller never waits for others.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from threading import Lock
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from prefect_executions.errors import ExecutionNotFound
from prefect_executions.ids import execution_id
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.prefect.listing import AT_ONCE, runs_with


class FlowRunReads:
    """Reads flow runs, those that several threads wait for in one request.

    Args:
        client: Prefect's client.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self._lock = Lock()
        self._waiting: dict[UUID, Future[FlowRun]] = {}
        self._next: Future[None] | None = None  # done when the request that is under way has ended

    def read(self, run_id: UUID) -> FlowRun:
        """Read a flow run, as it is now or later.

        Raises:
            ExecutionNotFound: There is no such run.
            PrefectUnavailable: The server did not answer.
        """
        with self._lock:
            mine = self._waiting.setdefault(run_id, Future())
        while not mine.done():
            with self._lock:
                under_way = self._next
                if under_way is None:
                    self._next = ended = Future[None]()
                    some = [*self._waiting][:AT_ONCE]
                    asked = {id_: self._waiting.pop(id_) for id_ in some}
            if under_way is not None:
                under_way.result()
                continue
            try:
                self._answer(asked)
            finally:
                with self._lock:
                    self._next = None
                ended.set_result(None)
        return mine.result()

    def _answer(self, asked: dict[UUID, "Future[FlowRun]"]) -> None:
        """Give each caller its run, or the error."""
        try:
            found = self._read(asked)
        except BaseException as error:
            for future in asked.values():
                future.set_exception(error)
            return
        for id_, future in asked.items():
            if id_ in found:
                future.set_result(found[id_])
            else:
                future.set_exception(ExecutionNotFound(execution_id(id_)))

    def _read(self, ids: Iterable[UUID]) -> dict[UUID, FlowRun]:
        first, *others = ids
        if not others:
            with prefect_errors(first):
                return {first: self._client.read_flow_run(first)}
        return runs_with(self._client, [first, *others])
