"""Executions as files: exported from one Prefect and store, imported into others."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from prefect.client.schemas.objects import FlowRun

from prefect_executions.errors import (
    AlreadyExists,
    ArchiveError,
    ExecutionError,
    ExecutionNotFound,
)
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.landing import land
from prefect_executions.executions.plans import Plan
from prefect_executions.executions.reader import ExecutionReader
from prefect_executions.executions.views import execution_of
from prefect_executions.ids import execution_id
from prefect_executions.log.archive import Archive, stored_entries, write_archive
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.redaction import RedactedPath, Redaction, Redactor
from prefect_executions.models import Execution
from prefect_executions.prefect.deployments import entrypoint_of
from prefect_executions.prefect.states import is_created, status_of
from prefect_executions.prefect.tags import OUTSIDE, deployment_of, imported_tag

_AT_ONCE = 8  # entries that are in memory at a time


def export(
    executions: ExecutionReader, id_: str, file: BinaryIO, *, redact: Sequence[RedactedPath] = ()
) -> None:
    """Write an execution to a file: its log, byte for byte, and what Prefect knows of it.

    Of one that runs it is the log as it was at the beginning.

    Args:
        executions: Where it is.
        id_: Its id.
        file: Where it goes.
        redact: The paths of values that are left out; then each entry is written anew.

    Raises:
        ExecutionNotFound: there is none, or it was deleted meanwhile.
        ArchiveError: nothing was ever at a path; the file has no end, and nobody takes it.
    """
    run, log = executions.run(id_), executions.log(id_)
    log.living_head(journal=False)
    facts, entries = facts_of(executions, run), stored_entries(log)
    if redact:
        redactor = Redactor(redact)
        facts["parameters"] = redactor.applied(facts["parameters"], "parameters")
        facts["redacted"] = [path.text for path in redact]
        entries = Redaction(redactor).entries(entries)
    write_archive(file, facts, entries)


def facts_of(executions: ExecutionReader, run: FlowRun) -> dict[str, Any]:
    """What Prefect knows of an execution that is of use elsewhere, as JSON."""
    is_outside = OUTSIDE in run.tags
    return {
        "execution_id": execution_id(run.id),
        "name": run.name,
        "status": status_of(run).value,
        "deployment": None if is_outside else deployment_of(run),
        "entrypoint": None if is_outside else entrypoint_of(executions.flow_runs.client, run),
        "is_outside": is_outside,
        "parameters": run.parameters,
    }


@dataclass(frozen=True)
class Importing:
    """Makes executions of files.

    Args:
        creation: Creates them.
    """

    creation: Creation

    def load(self, file: BinaryIO, *, deployment: str | None = None) -> tuple[Execution, bool]:
        """Make an execution of a file that `export` has written.

        It has the same log, byte for byte, under an id of its own. It has completed if the other
        one had; else it is paused, and goes on when it is resumed. Nothing is written before the
        whole file is proven, and what a process that dies has left is removed by a supervisor. The
        same file again is the same execution.

        Args:
            file: The file, which can be sought.
            deployment: What runs it; by default the deployment of the same name.

        Returns:
            The execution, and whether it is new.

        Raises:
            ArchiveError: the file is no export, or damaged; nothing was created.
            DeploymentNotFound, UnsuitableDeployment, ParametersError: no such deployment can run
                it; nothing was created.
        """
        archive, created = proven(file)
        executions = self.creation.executions
        flow_runs, facts = executions.flow_runs, archive.facts
        if not facts["is_outside"] and deployment is None and facts["deployment"] is None:
            raise ArchiveError("it had no deployment; name one that is to run it.")
        plan = Plan(created.meta or {}, b"", None, {}, "")
        run = flow_runs.create(
            None if facts["is_outside"] else deployment or facts["deployment"],
            name=facts["name"],
            parameters=facts["parameters"],
            tags=[*plan.tags, imported_tag(f"{facts['execution_id']}")],
            key=f"import {archive.digest}",
        )
        log = executions.log(execution_id(run.id))
        is_new = not is_created(run)
        if is_new:
            file.seek(0)
            if archive.has_gaps:
                log.note_removal()
            _copy(log, Archive(file).entries())
            try:
                run = land(executions, run, log.living_head())
            except ExecutionNotFound:  # a supervisor has taken the import for abandoned
                log.purge()
                raise
        history = log.read(checkpoints=100)
        return execution_of(run, history, executions.clock(), states=False), is_new


def proven(file: BinaryIO) -> tuple[Archive, Entry]:
    """Read all of a file; returns it, and its entry 0.

    Raises:
        ArchiveError: it is damaged, or not of a log that was in use.
    """
    file.seek(0)
    archive = Archive(file)
    created: Entry | None = None
    try:
        for seq, data in archive.entries():
            entry = Entry.outline_from_bytes(data, key=f"log/{seq:09d}", seq=seq)
            created = created or entry
            if entry.kind is Kind.DELETED:
                raise ArchiveError("it is of an execution that was deleted.")
    except ExecutionError as error:
        raise error if isinstance(error, ArchiveError) else ArchiveError(f"{error}") from error
    if created is None:
        raise ArchiveError("it has no entries.")
    missing = {
        "execution_id",
        "name",
        "status",
        "deployment",
        "is_outside",
        "parameters",
    } - archive.facts.keys()
    if missing:
        raise ArchiveError(f"execution.json lacks {', '.join(sorted(missing))}.")
    return archive, created


def _copy(log: ExecutionLog, entries: Iterator[tuple[int, bytes]]) -> None:
    """Write entries to a log, entry 0 last: without it there is no log.

    Raises:
        ArchiveError: the log has others.
    """
    first = list(islice(entries, 1))
    while some := list(islice(entries, _AT_ONCE)) or first:
        wanted = {log.key(seq): data for seq, data in some}
        for key, data in wanted.items():
            with suppress(AlreadyExists):  # by an import that was interrupted
                log.objects.create(key, data)
        if log.objects.get(wanted) != wanted:
            raise ArchiveError(f"{log.execution_id} has another entry {some[0][0]}.")
        if some is first:
            return
