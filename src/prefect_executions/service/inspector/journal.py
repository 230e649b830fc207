"""The journal of an execution: what happened, in one list, newest first, page by page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import TaskRun
from rich.filesize import decimal

from prefect_executions.executions.executions import Executions
from prefect_executions.forgotten import counted
from prefect_executions.ids import checkpoint_id, flow_run_id
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import PAUSE, Outcome, Record
from prefect_executions.log.recordings import Recording, recordings
from prefect_executions.prefect.pauses import answerer
from prefect_executions.prefect.task_runs import task_runs_between

ITEMS = 50  # of a page, or a few more
ENTRIES = 64  # that are read at once
LOOKED_AT = 1024  # entries that a page looks at, at most, to find items of one kind
OF_ENTRY = 50  # records of one entry that a page shows
SHOWN = 600  # characters of a value
KINDS = {
    "attempt": "Attempts",
    "step": "Steps",
    "checkpoint": "Checkpoints",
    "question": "Questions and pauses",
    "roll-back": "Roll-backs",
    "edit": "Edits",
}
_REPLAYED = "Replayed"  # the state of the task run of a call that was not carried out again
_LAG = timedelta(seconds=5)  # between the record of a step and the end of its task run
_LONGEST = timedelta(hours=6)  # of a step whose duration is looked for


@dataclass(kw_only=True)
class Item:
    """Something that happened.

    Args:
        kind: One of `KINDS`.
        what: What it is, more exactly; the style of its mark.
        seq: The entry of the log.
        at: When.
        attempt: The attempt in which it happened.
        title: What people read first.
        badges: What they read beside it, in a word each.
        note: What they read below it.
        details: What it unfolds: each a name, and a text.
        checkpoint: The checkpoint that it is, or leads to.
        seconds: How long it took, where that is known.
        pause_key: Of a question or a pause: the key of its pause in Prefect.
    """

    kind: str
    what: str
    seq: int
    at: datetime
    attempt: int
    title: str
    badges: list[str] = field(default_factory=list)
    note: str = ""
    details: list[tuple[str, str]] = field(default_factory=list)
    checkpoint: str | None = None
    seconds: float | None = None
    pause_key: str | None = None

    @property
    def key(self) -> str:
        """Tells it from the other items of an execution."""
        return f"{self.seq}-{self.what}-{self.title}"


@dataclass(frozen=True)
class JournalPage:
    """A part of a journal.

    Args:
        items: What happened, newest first.
        older: The entry at which the next page begins; None when there is none.
        kind: The only kind of its items; "" for all.
    """

    items: list[Item]
    older: int | None
    kind: str


def journal_page(
    seen: Executions, execution_id: str, *, until: int | None = None, kind: str = ""
) -> JournalPage:
    """A page of the journal of an execution.

    Args:
        seen: The executions.
        execution_id: The execution.
        until: The entry at which it begins; by default the newest.
        kind: The only kind of items that is wanted; "" for all.

    Raises:
        ExecutionNotFound: There is no such log.
    """
    log = seen.log(execution_id)
    newest = log.require_newest()
    at = newest if until is None else min(until, newest)
    items: list[Item] = []
    lowest = max(at - LOOKED_AT, 0)
    older: int | None = at
    while older is not None and older >= lowest and len(items) < ITEMS:
        found = recordings(log, older, ENTRIES)
        after: int | None = older - ENTRIES
        for recording in found:
            items += [each for each in _items(recording) if kind in ("", each.kind)]
            if len(items) >= ITEMS:
                after = recording.entry.seq - 1
                break
        older = after if after is not None and after >= 0 else None
    if items:
        _add_task_runs(items, seen.flow_runs.client, execution_id)
        _add_answerers(items, seen.flow_runs.client, execution_id)
    return JournalPage(items, older, kind)


def _items(recording: Recording) -> Iterator[Item]:
    """What an entry tells of, newest first."""
    entry = recording.entry
    if (told := _of_entry(recording)) is not None:
        yield told
    if entry.kind is Kind.CREATED:  # of a fork: what its origin has recorded
        return
    records = [record for record in recording.records if record.outcome is not Outcome.NOTE]
    for record in reversed(records[-OF_ENTRY:]):
        yield _of_record(entry, record, is_open=record.order in recording.open)
    if len(records) > OF_ENTRY:
        title = f"{len(records) - OF_ENTRY:,} more steps were recorded with them"
        yield _item(entry, "step", "more", title)


def _of_entry(recording: Recording) -> Item | None:
    """What an entry itself tells of; None when it only has what steps have recorded."""
    entry = recording.entry
    match entry.kind:
        case Kind.CREATED:
            return _created(recording)
        case Kind.CHECKPOINT:
            return _checkpoint(entry)
        case Kind.ATTEMPT:
            made = _item(entry, "attempt", "attempt", f"Attempt {entry.attempt} began")
            made.note = f"version {entry.version}" if entry.version else ""
            return made
        case Kind.ROLLBACK:
            made = _item(entry, "roll-back", "roll-back", "Rolled back")
            made.checkpoint = checkpoint_id(entry.continues_from)
            lost = recording.forgotten
            made.note = _by(entry)
            if lost:
                told = f"The steps after it have happened: {counted(lost)}."
                made.note = f"{made.note}. {told}" if made.note else told
            return made
        case Kind.CRASH | Kind.RETRY:
            is_crash = entry.kind is Kind.CRASH
            title = "Crashed" if is_crash else f"Failed, and is tried again ({entry.retries})"
            made = _item(entry, "attempt", "crash" if is_crash else "retry", title)
            made.note = _cut(entry.reason or "")
            return made
        case Kind.RESULT:
            made = _item(entry, "attempt", "result", "Completed")
            made.details = _shown("result", (entry.meta or {}).get("result"))
            return made
        case _:
            return None


def _created(recording: Recording) -> Item:
    entry = recording.entry
    fork = (entry.meta or {}).get("fork")
    made = _item(entry, "attempt", "created", "Created")
    if fork:
        made.title = "Forked"
        made.note = f"from {fork['execution_id']}, {fork['checkpoint_id']}"
        steps = len(recording.records)
        made.note += f", with {steps:,} recorded steps" if steps else ""
    return made


def _checkpoint(entry: Entry) -> Item:
    by = entry.saved_by
    title = entry.label or checkpoint_id(entry.seq)
    what = "checkpoint" if by is None else "edit"
    made = _item(entry, what, what, title)
    made.checkpoint = checkpoint_id(entry.seq)
    made.badges = [decimal(entry.size)]
    made.note = _by(entry)
    return made


def _by(entry: Entry) -> str:
    """Who has done it, and why, as far as that is known."""
    told = [f"by {entry.saved_by}" if entry.saved_by else "", _cut(entry.reason or "")]
    return ": ".join(filter(None, told))


def _of_record(entry: Entry, record: Record, *, is_open: bool) -> Item:
    is_question = record.pause_key is not None
    kind = "question" if is_question else "step"
    made = _item(entry, kind, record.outcome.value, record.step)
    made.at, made.pause_key = record.at, record.pause_key
    if is_question:
        made.title = "Paused" if record.step == PAUSE else f"Asked for {record.step[4:]}"
        if record.outcome is Outcome.DONE:
            made.what = "answered"
            made.title = made.title.replace("Paused", "Went on").replace("Asked for", "Answered:")
    made.badges = [said for said in [_badge(record, is_open)] if said]
    if record.undo and record.outcome is Outcome.DONE:
        made.badges.append("can be undone")
    if record.child is not None:
        made.note = f"the execution {record.child}"
    made.details = _details(record)
    return made


def _badge(record: Record, is_open: bool) -> str:
    match record.outcome:
        case Outcome.BEGUN:
            return "has not returned" if is_open else "began"
        case Outcome.WAITING:
            return "waits" if is_open else ""
        case Outcome.UNKEPT:
            return "its result can't be kept"
        case Outcome.UNDO:
            return "is to be undone"
        case Outcome.UNDONE:
            return "undone"
        case _:
            return ""


def _details(record: Record) -> list[tuple[str, str]]:
    name = "answer" if record.pause_key is not None else "result"
    details = [("called with", record.called_with)] if record.called_with else []
    if record.large is not None:
        details.append((name, f"{decimal(record.large.size)}, kept beside the journal"))
    elif record.result is not None:
        details.append((name, _cut(record.result[: 4 * SHOWN].decode("utf-8", "ignore"))))
    if record.undo_by is not None:
        details.append(("undone by", record.undo_by))
    details.append(("identity", f"call {record.order}, {record.key[:12]}, place {record.place}"))
    return details


def _shown(name: str, value: Any) -> list[tuple[str, str]]:
    return [] if value is None else [(name, _cut(f"{value}"))]


def _item(entry: Entry, kind: str, what: str, title: str) -> Item:
    return Item(
        kind=kind, what=what, seq=entry.seq, at=entry.at, attempt=entry.attempt, title=title
    )


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _add_task_runs(items: Sequence[Item], client: SyncPrefectClient, execution_id: str) -> None:
    """Add what Prefect knows of task runs: how long steps took, and what an attempt replayed."""
    since, until = items[-1].at - _LONGEST, items[0].at + _LONGEST
    runs = task_runs_between(client, flow_run_id(execution_id), since, until)
    replayed = [run for run in runs if run.state_name == _REPLAYED]
    later = until
    for item in items:
        if item.what == "attempt":
            times = [run.start_time for run in replayed if run.start_time is not None]
            count = sum(item.at <= time < later for time in times)
            item.badges += [f"{count:,} × replayed"] if count else []
            later = item.at
    for step in items:
        fitting = [run for run in runs if _is_of(run, step)]
        if fitting:
            nearest = min(fitting, key=lambda run: abs(_end(run) - step.at))
            runs.remove(nearest)
            began = nearest.start_time
            step.seconds = (step.at - began).total_seconds() if began else None


def _add_answerers(items: Sequence[Item], client: SyncPrefectClient, execution_id: str) -> None:
    """Add to answers who has given them, where that was over REST or in the inspector."""
    for item in items:
        if item.what == "answered" and item.pause_key is not None:
            by = answerer(client, flow_run_id(execution_id), item.pause_key)
            item.note = f"by {by}" if by else ""


def _is_of(run: TaskRun, step: Item) -> bool:
    """Whether a step may have been this task run."""
    is_recorded = step.kind == "step" and step.what == Outcome.DONE
    if run.start_time is None or run.end_time is None or not is_recorded:
        return False
    its_name = run.name.rpartition("-")[0] or run.name
    has_run = its_name == step.title and run.state_name != _REPLAYED
    return has_run and run.start_time <= step.at <= run.end_time + _LAG


def _end(run: TaskRun) -> datetime:
    assert run.end_time is not None
    return run.end_time
