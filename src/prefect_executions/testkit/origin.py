"""An execution of elsewhere, read to be replayed here: its log in memory, and its parameters."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client

from prefect_executions.executions.archives import facts_of, proven
from prefect_executions.executions.reader import ExecutionReader
from prefect_executions.ids import canonical, is_execution_id
from prefect_executions.log.archive import Archive, stored_entries
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.stores.opening import open_store


@dataclass(frozen=True)
class Origin:
    """An execution that is replayed; a copy of its log, which nobody else sees.

    Args:
        log: The copy.
        facts: What else is known of it: see `archives.facts_of`.
    """

    log: ExecutionLog
    facts: dict[str, Any]

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of its flow, as JSON."""
        given: dict[str, Any] = self.facts["parameters"]
        return given

    @property
    def entrypoint(self) -> str | None:
        """Where the code of its deployment is, as `file.py:flow`; None if that is not known."""
        known: str | None = self.facts.get("entrypoint")
        return known


def read_origin(source: str | Path, *, store: str | None = None) -> Origin:
    """Read an execution from its store, or from a file that `export` has written.

    Of store and Prefect it is only read.

    Args:
        source: The execution's id, or the path of the file.
        store: The Execution Store block, by default that of the settings.

    Raises:
        FileNotFoundError: there is no such file.
        ArchiveError: the file is no export, or it is damaged.
        ExecutionNotFound: there is no such execution.
    """
    if isinstance(source, str) and is_execution_id(canonical(source)):
        with get_client(sync_client=True) as client:
            block: Any = open_store(store)
            executions = ExecutionReader(block.open(), FlowRuns(client, store=block.name))
            return read_from(executions, canonical(source))
    data = io.BytesIO(Path(source).read_bytes())
    archive, _ = proven(data)
    data.seek(0)
    return _copied(archive.facts, Archive(data).entries())


def read_from(executions: ExecutionReader, execution_id: str) -> Origin:
    """Read an execution from where it is.

    Raises:
        ExecutionNotFound: there is no such execution.
    """
    run = executions.run(execution_id)
    log = executions.log(execution_id)
    log.living_head(journal=False)
    return _copied(facts_of(executions, run), stored_entries(log))


def _copied(facts: dict[str, Any], entries: Iterable[tuple[int, bytes]]) -> Origin:
    log = ExecutionLog(MemoryObjects(), facts["execution_id"])
    numbers = []
    for seq, data in entries:
        log.objects.create(log.key(seq), data)
        numbers.append(seq)
    if numbers != list(range(len(numbers))):
        log.note_removal()
    return Origin(log, facts)
