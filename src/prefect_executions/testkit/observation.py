"""What one run of a flow under test has written, asked and come to."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from prefect_executions.ids import flow_run_id
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.journal import PAUSE, Outcome, Record, lines_of
from prefect_executions.log.log import ExecutionLog
from prefect_executions.testkit.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One run, from its beginning to its end.

    Args:
        trial: The execution.
        writes: What each write of a process was, in words.
        done: The calls that have returned, as often as they were recorded.
        asked: What the flow has paused for, in words.
        unanswered: Whether it has paused once more than there are answers or pauses to end.
        died_after: How many writes there were when a process died; None when none has died.
        error: What went wrong in the test itself, such as an answer that did not fit.
        values: What is compared, as JSON, by what it is. The ids of executions are numbered.
    """

    trial: Trial
    writes: list[str]
    done: list[Record]
    asked: list[str]
    unanswered: bool
    died_after: int | None
    error: BaseException | None
    values: dict[str, str]

    @property
    def has_saved(self) -> bool:
        """Whether anything was durable before the end, at which a changed state is saved."""
        writes = list(self.writes)
        for at_the_end in ("the result", "a checkpoint"):
            if writes[-1:] == [at_the_end]:
                writes.pop()
        return any(not write.startswith("the beginning of attempt") for write in writes)

    def done_by_step(self) -> dict[str, list[Record]]:
        """The calls that have returned, by the names of their steps; questions left out."""
        found: dict[str, list[Record]] = {}
        for record in self.done:
            if record.pause_key is None:
                found.setdefault(record.step, []).append(record)
        return found


class Witness:
    """A hook that notes what the processes of a test have written.

    Args:
        log: Opens the log of an execution.

    Attributes:
        writes: What each write was, in words.
        done: The calls that have returned, as often as they were recorded.
    """

    def __init__(self, log: Callable[[str], ExecutionLog]) -> None:
        self.writes: list[str] = []
        self.done: list[Record] = []
        self._log = log
        self._journals: dict[str, bytes] = {}  # by the ids of the executions, nested ones too
        self._said: Counter[str] = Counter()

    def __call__(self, _: object, key: str, __: object) -> None:
        """Note an entry that was written."""
        execution_id = key.split("/")[1]
        head = self._log(execution_id).head()
        before = self._journals.get(execution_id, b"")
        self._journals[execution_id] = head.journal
        records = [Record.from_line(line) for line in lines_of(head.journal[len(before) :])]
        self.done += [record for record in records if record.outcome is Outcome.DONE]
        noun = _noun(head.entry, records)
        if execution_id != next(iter(self._journals)):
            noun += " of a nested execution"
        self._said[noun] += 1
        self.writes.append(noun if self._said[noun] == 1 else f"{noun} (no. {self._said[noun]})")

    def plainly(self, value: Any) -> str:
        """A value as JSON; ids of executions, which differ from run to run, are numbered."""
        try:
            data = to_jsonable_python(value, fallback=repr, bytes_mode="base64")
        except ValueError:  # it holds itself
            data = repr(value)
        return self.without_ids(json.dumps(data, sort_keys=True, ensure_ascii=False))

    def without_ids(self, text: str) -> str:
        """A text in which the ids of executions are numbered."""
        for n, execution_id in enumerate(self._journals, 1):
            text = text.replace(execution_id, f"exec_{n}")
            text = text.replace(f"{flow_run_id(execution_id)}", f"flow-run-{n}")
        return text


def _noun(entry: Entry, records: list[Record]) -> str:
    """What an entry is, in words."""
    match entry.kind:
        case Kind.ATTEMPT:
            return f"the beginning of attempt {entry.attempt}"
        case Kind.CHECKPOINT:
            waiting = [record.step for record in records if record.outcome is Outcome.WAITING]
            if waiting:
                return f"the {'pause' if waiting == [PAUSE] else 'question'} {entry.label!r}"
            return "a checkpoint" if entry.label is None else f"the checkpoint {entry.label!r}"
        case Kind.STEPS:
            ended = [record for record in records if record.outcome is Outcome.DONE]
            names = ", ".join(_called(record) for record in ended or records)
            return f"the record of {names}" if ended else f"the beginning of {names}"
    return f"the {entry.kind}"


def _called(record: Record) -> str:
    if record.pause_key is None:
        return f"the step {record.step!r}"
    return "the end of a pause" if record.step == PAUSE else f"the answer to {record.step!r}"
