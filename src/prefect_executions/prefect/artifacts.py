"""The page of an execution in the Prefect UI: an artifact of its flow run, updated in place."""

import logging
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from threading import Lock
from time import monotonic
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.logging import get_run_logger

from prefect_executions.background import Scheduler, Throttle
from prefect_executions.errors import ExecutionNotFound
from prefect_executions.ids import execution_id
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.models import Status
from prefect_executions.prefect.errors import passing, prefect_errors
from prefect_executions.prefect.run_page import NEWEST, Row, RunPage
from prefect_executions.prefect.tags import DELETING

logger = logging.getLogger(__name__)

KEY = "execution"  # of the artifact
EVERY_SECONDS = 5.0  # how often it is written at most
FIRST_SECONDS = 1.0  # after the beginning of an attempt, and after a change where none was before
_STATUS = "status"  # in its metadata


class PageArtifact:
    """The artifact of one flow run; what writes it at the same time may make another for a moment.

    Args:
        client: Prefect's.
        run_id: The flow run.

    Every method raises `PrefectUnavailable` when Prefect does not answer, and `ExecutionNotFound`
    when the run is gone.
    """

    def __init__(self, client: SyncPrefectClient, run_id: UUID) -> None:
        self._client = client
        self._run_id = run_id
        self._id: UUID | None = None

    def show(self, page: RunPage) -> None:
        """Let it tell what a page tells."""
        told = {
            "data": page.text(),
            "description": page.summary(),
            "metadata_": {_STATUS: page.status.value},
        }
        if self._id is None:
            self.status()
        with prefect_errors(self._run_id):
            if self._id is not None:
                with passing(HTTPStatus.NOT_FOUND):  # somebody has deleted it
                    self._client.update_artifact(self._id, ArtifactUpdate.model_validate(told))
                    return
            create = ArtifactCreate.model_validate(
                {**told, "key": KEY, "type": "markdown", "flow_run_id": self._run_id}
            )
            self._id = self._client.create_artifact(create).id
            self._require_run(self._id)

    def _require_run(self, artifact_id: UUID) -> None:
        """Take a new artifact back if its run is being deleted: Prefect would keep it for ever."""
        with passing(HTTPStatus.NOT_FOUND):
            if DELETING not in self._client.read_flow_run(self._run_id).tags:
                return
        with passing(HTTPStatus.NOT_FOUND):
            self._client.delete_artifact(artifact_id)
        raise ExecutionNotFound(execution_id(self._run_id))

    def status(self) -> str | None:
        """The status that it tells; None: there is no such artifact.

        Others that were made at the same time are let go of.
        """
        filter_ = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[self._run_id]),
            key=ArtifactFilterKey(any_=[KEY]),
        )
        with prefect_errors(self._run_id):
            found = self._client.read_artifacts(artifact_filter=filter_)
            found = sorted(found, key=lambda artifact: f"{artifact.id}")
            for other in found[1:]:
                with passing(HTTPStatus.NOT_FOUND):
                    self._client.delete_artifact(other.id)
        if not found:
            return None
        self._id = found[0].id
        return (found[0].metadata_ or {}).get(_STATUS, "")


class AttemptPage:
    """Keeps the page up to date while an attempt runs, beside the flow, and once more at its end.

    Args:
        artifact: The page.
        log: The log.
        head: Its head, with the attempt.
        active_seconds: How long the execution had been active when the attempt began.
    """

    def __init__(
        self, artifact: PageArtifact, log: ExecutionLog, head: Head, active_seconds: float
    ) -> None:
        self._artifact = artifact
        self._log = log
        self._head = head
        self._active = active_seconds
        self._began = monotonic()
        self._ending: tuple[Status, str | None] | None = None
        self._earlier: list[Row] | None = None if head.entry.continues_from else []
        self._rows: deque[Row] = deque(maxlen=NEWEST)
        self._logger = get_run_logger()
        self._writing = Lock()
        self._closed = False
        self._pacer = Scheduler("execution-page")
        self._throttle: Throttle[None] = Throttle(
            self._pacer.after, lambda _: self._write(), every=EVERY_SECONDS, first=FIRST_SECONDS
        )
        self._throttle.changed(None)

    def saved(self, head: Head) -> None:
        """A checkpoint was saved: the head of the log."""
        self._head = head
        self._rows.appendleft(Row.of(head.entry))
        self._throttle.changed(None)

    def ended(self, status: Status, message: str | None) -> None:
        """The attempt ends, and leaves the execution in a status."""
        self._ending = status, message

    def close(self) -> None:
        """Write for the last time, unless nobody knows how the attempt ends."""
        self._pacer.stop()
        if self._ending is not None:
            self._write()
        with self._writing:  # what is being written just now has come to its end
            self._closed = True

    def _write(self) -> None:
        with self._writing:
            if self._closed:
                return
            try:
                self._artifact.show(self._page())
            except Exception as failure:  # whatever it is, the flow goes on
                self._logger.debug("The page of the execution could not be written: %s", failure)

    def _page(self) -> RunPage:
        if self._earlier is None:
            history = self._log.read(checkpoints=NEWEST)
            self._earlier = [Row.of(entry) for entry in history.checkpoints()]
        rows = {row.id: row for row in [*self._rows.copy(), *self._earlier]}
        status, message = self._ending or (Status.RUNNING, None)
        head = self._head
        return RunPage(
            execution_id=self._log.execution_id,
            status=status,
            message=message,
            attempt=head.entry.attempt,
            active_seconds=max(
                self._active + monotonic() - self._began - head.entry.dead_seconds, 0.0
            ),
            state=head.state,
            checkpoints=list(rows.values())[:NEWEST],
        )


class PageUpdates:
    """Keeps the pages of executions up to date that no process of Prefect's keeps.

    Args:
        later: Calls a function after so many seconds: `Scheduler.after`.
        page: What is told of the execution of a flow run.
        client: Prefect's.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], None],
        page: Callable[[UUID], RunPage],
        client: SyncPrefectClient,
    ) -> None:
        self._page = page
        self._client = client
        self._throttle: Throttle[UUID] = Throttle(
            later, self._write, every=EVERY_SECONDS, first=FIRST_SECONDS
        )

    def changed(self, run_id: UUID) -> None:
        """Something was done to an execution."""
        self._throttle.changed(run_id)

    def close(self) -> None:
        """Write what waits."""
        self._throttle.close()

    def _write(self, run_id: UUID) -> None:
        try:
            PageArtifact(self._client, run_id).show(self._page(run_id))
        except ExecutionNotFound:
            logger.debug("The execution of %s was deleted", run_id)
        except Exception as failure:  # whatever it is, the next page is to be written
            logger.warning("The page of %s could not be written: %s", run_id, failure)
