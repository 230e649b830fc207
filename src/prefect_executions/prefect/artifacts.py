"""The page of an execution in the Prefect UI: an artifact of its flow run, updated in place."""

import logging
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
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
from prefect_executions.config import Status
from prefect_executions.errors import ExecutionNotFound
from prefect_executions.ids import execution_id
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head
from prefect_executions.prefect.errors import passing, prefect_errors
from prefect_executions.prefect.run_page import NEWEST, Row, RunPage
from prefect_executions.prefect.tags import DELETING

logger = logging.getLogger(__name__)

KEY = "execution"  # the artifact's key
EVERY_SECONDS = 5.0  # seconds between two updates, at least
FIRST_SECONDS = 1.0  # seconds from the first change to the first update
_STATUS, _ATTEMPT, _PROGRESS = "status", "attempt", "progress"  # in the artifact's metadata


@dataclass(frozen=True)
class PageFacts:
    """What the page of a run has shown last: its attempt, and its progress as a share and text."""

    attempt: int
    progress: tuple[float, str] | None


def page_facts(client: SyncPrefectClient, run_ids: Collection[UUID]) -> dict[UUID, PageFacts]:
    """What the pages of runs have shown last, of those that have one: a single request.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    if not run_ids:
        return {}
    filter_ = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[*run_ids]), key=ArtifactFilterKey(any_=[KEY])
    )
    with prefect_errors():
        found = client.read_artifacts(artifact_filter=filter_)
    facts: dict[UUID, PageFacts] = {}
    for artifact in found:
        known = artifact.metadata_ or {}
        if artifact.flow_run_id is not None and _ATTEMPT in known:
            share, _, text = f"{known.get(_PROGRESS, '')}".partition(" ")
            progress = (float(share), text) if share else None
            facts[artifact.flow_run_id] = PageFacts(int(known[_ATTEMPT]), progress)
    return facts


def _metadata(page: RunPage) -> dict[str, str]:
    """What `page_facts` reads; Prefect keeps nothing but texts."""
    known = page.progress()
    share = {} if known is None else {_PROGRESS: f"{known[0]:.4f} {known[1]}"}
    return {_STATUS: page.status.value, _ATTEMPT: f"{page.attempt}", **share}


class PageArtifact:
    """The artifact of one flow run. Two processes that create it at once make a duplicate.

    Args:
        client: Prefect's client.
        run_id: The flow run.

    Every method raises `PrefectUnavailable` when Prefect does not answer, and `ExecutionNotFound`
    when the run is gone.
    """

    def __init__(self, client: SyncPrefectClient, run_id: UUID) -> None:
        self._client = client
        self._run_id = run_id
        self._ids: list[UUID] = []  # of the artifacts that were found; the first one is kept

    def show(self, page: RunPage) -> None:
        """Write a page into the artifact, which is created where it is missing."""
        fields = {
            "data": page.text(),
            "description": page.summary(),
            "metadata_": _metadata(page),
        }
        if not self._ids:
            self.find()
        self.remove_duplicates()
        with prefect_errors(self._run_id):
            if self._ids:
                with passing(HTTPStatus.NOT_FOUND):  # it has been deleted
                    update = ArtifactUpdate.model_validate(fields)
                    self._client.update_artifact(self._ids[0], update)
                    return
            create = ArtifactCreate.model_validate(
                {**fields, "key": KEY, "type": "markdown", "flow_run_id": self._run_id}
            )
            self._ids = [self._client.create_artifact(create).id]
            self._remove_with_run(self._ids[0])

    def _remove_with_run(self, artifact_id: UUID) -> None:
        """Delete a new artifact if its run is being deleted: Prefect would keep it for ever.

        Raises:
            ExecutionNotFound: The run is being deleted.
        """
        with passing(HTTPStatus.NOT_FOUND):
            if DELETING not in self._client.read_flow_run(self._run_id).tags:
                return
        with passing(HTTPStatus.NOT_FOUND):
            self._client.delete_artifact(artifact_id)
        raise ExecutionNotFound(execution_id(self._run_id))

    def find(self) -> str | None:
        """Find the artifact, and return the status that it shows, or None when there is none."""
        filter_ = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[self._run_id]),
            key=ArtifactFilterKey(any_=[KEY]),
        )
        with prefect_errors(self._run_id):
            found = self._client.read_artifacts(artifact_filter=filter_)
        found = sorted(found, key=lambda artifact: f"{artifact.id}")
        self._ids = [artifact.id for artifact in found]
        return (found[0].metadata_ or {}).get(_STATUS, "") if found else None

    def remove_duplicates(self) -> None:
        """Delete the other artifacts that `find` has found: they were created at the same time."""
        while len(self._ids) > 1:
            with prefect_errors(self._run_id), passing(HTTPStatus.NOT_FOUND):
                self._client.delete_artifact(self._ids[-1])
            self._ids.pop()


class AttemptPage:
    """Keeps the page of a running attempt up to date in a thread, and writes it again at the end.

    Args:
        artifact: The page.
        log: The log of the execution.
        head: The head of the log, with the attempt.
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
        """Write a saved checkpoint to the page soon; it is the head of the log."""
        self._head = head
        self._rows.appendleft(Row.of(head.entry))
        self._throttle.changed(None)

    def ended(self, status: Status, message: str | None) -> None:
        """Note the status in which the attempt leaves the execution."""
        self._ending = status, message

    def close(self) -> None:
        """Write for the last time, unless it is unknown how the attempt ends."""
        self._pacer.stop()
        if self._ending is not None:
            self._write()
        with self._writing:  # after a write that is under way
            self._closed = True

    def _write(self) -> None:
        with self._writing:
            if self._closed:
                return
            try:
                self._artifact.show(self._page())
            except Exception as failure:  # the flow must not fail because of its page
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
    """Keeps the pages up to date of executions that run outside Prefect.

    Args:
        later: Calls a function after so many seconds, as `Scheduler.after` does.
        page: Makes the page of a flow run.
        client: Prefect's client.
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
        """Note that an execution has changed, and write its page soon."""
        self._throttle.changed(run_id)

    def close(self) -> None:
        """Write the pages that still wait."""
        self._throttle.close()

    def _write(self, run_id: UUID) -> None:
        try:
            PageArtifact(self._client, run_id).show(self._page(run_id))
        except ExecutionNotFound:
            logger.debug("The execution of %s was deleted", run_id)
        except Exception as failure:  # the next page must be written
            logger.warning("The page of %s could not be written: %s", run_id, failure)
