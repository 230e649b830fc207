"""What commands print: tables and text for people, JSON for programs."""

import json
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, TypeVar

from humanize import naturaltime
from pydantic import BaseModel
from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from prefect_executions.config import Status
from prefect_executions.ids import EXECUTION_ID
from prefect_executions.models import Execution, Summary

T = TypeVar("T")

COLOURS = {
    Status.RUNNING: "blue",
    Status.PAUSED: "yellow",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.TERMINATED: "magenta",
}
MANY = 200  # items that come at once; of more a person sees the number grow
SHORT = len("exec_0192f0c1a6b8")  # of ids in tables: no two of 100,000 begin alike by chance

# Columns of values that are short; those of other columns are folded.
_NARROW = frozenset(["id", "status", "created", "saved", "written", "used", "entries", "bytes"])

# Control characters, which a terminal would obey.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Output:
    """Prints the output of a command.

    At a terminal times are relative, and tables have short ids.

    Args:
        as_json: Print one JSON document, and nothing else.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        # No markup and no emoji codes: the names and labels of users are printed as they are.
        self.console = Console(
            highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty()
        )

    def say(self, text: str | Text) -> None:
        """Print a text for people; nothing in JSON."""
        if not self.as_json:
            self._print(text)

    def show(self, value: Any, text: str | Text | Table) -> None:
        """Print a value as JSON, or else the text for people."""
        if self.as_json:
            json.dump(_plain(value), sys.stdout, ensure_ascii=False)
            sys.stdout.write("\n")
        else:
            self._print(text)

    def _print(self, text: str | Text | Table, *, end: str = "\n") -> None:
        if isinstance(text, str):
            text = harmless(text)
        self.console.print(text, end=end, soft_wrap=True if isinstance(text, str) else None)

    def rows(self, items: Sequence[Any], columns: str, rows: Iterable[Sequence[Any]]) -> None:
        """Print a list, as JSON or as a table."""
        cells = [list(row) for row in rows]
        if not self.as_json and not self.console.is_terminal and cells:
            for row in cells:
                print(*(" ".join(f"{self._cell(cell)}".split()) for cell in row), sep="\t")
            return
        names = columns.split()
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in names:
            table.add_column(name.upper(), overflow="fold", no_wrap=name in _NARROW)
        if "id" in names:
            at = names.index("id")
            short = shortened([row[at] for row in cells])
            cells = [[*row[:at], short[row[at]], *row[at + 1 :]] for row in cells]
        for row in cells:
            table.add_row(*map(self._cell, row))
        self.show(list(items), table if items else "None.")

    def execution(self, execution: Execution) -> None:
        """Print an execution with its newest checkpoint."""
        rows: list[tuple[str, Any]] = [
            ("id", execution.id),
            ("name", execution.name),
            ("status", status(execution.status)),
            ("agent", execution.agent_id),
            ("task type", execution.task_type),
            ("attempt", execution.prefect.attempt),
            ("runs on", execution.prefect.runs_on),
            ("active", f"{execution.elapsed_seconds:,} s"),
            ("started", execution.started_at),
            ("ended", execution.completed_at),
            ("message", execution.prefect.message),
            ("result", None if execution.result is None else json.dumps(execution.result)),
            ("checkpoints", _newest(execution)),
            ("Prefect", execution.prefect.url),
        ]
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in rows:
            if value is not None:
                table.add_row(name, self._cell(value))
        self.show(execution, table)

    def _cell(self, value: Any) -> Text:
        if isinstance(value, Text):
            return value
        if value is None:
            return Text("")
        if isinstance(value, datetime):
            return Text(ago(value) if self.console.is_terminal else when(value))
        return Text(harmless(f"{value}"))


def gathered(items: Iterable[T], what: str) -> list[T]:
    """All items; while many of them come, a terminal shows how many there are so far.

    Args:
        items: The items, of which `MANY` come at once.
        what: The plural of their noun.
    """
    console, found = Console(stderr=True), list[T]()
    if not console.is_terminal:
        return list(items)
    with ExitStack() as stack:
        shown = console.status("")
        for item in items:
            found.append(item)
            if len(found) == MANY:
                stack.enter_context(shown)
            if len(found) % MANY == 0:
                shown.update(f"{len(found):,} {what} so far")
    return found


def confirmed(question: str) -> bool:
    """Ask a person at a terminal, on standard error; an end of the input is a no."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    try:
        return Confirm.ask(Text(harmless(question)), console=console, default=False)
    except EOFError:
        console.print()
        return False


def ago(time: datetime) -> str:
    """A time as people say it, from now."""
    return naturaltime(time, when=datetime.now(UTC))


def when(time: datetime) -> str:
    """A time as programs read it."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def shortened(ids: Collection[str]) -> dict[str, str]:
    """Ids of executions by as many digits as tell them apart; other ids are left whole."""
    several = {id_ for id_ in ids if EXECUTION_ID.fullmatch(id_)}
    length = SHORT
    while len({id_[:length] for id_ in several}) < len(several):
        length += 1
    return {id_: id_[:length] if id_ in several else id_ for id_ in ids}


def harmless(text: str) -> str:
    """A text without control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def status(value: Status) -> Text:
    """A status in its colour."""
    return Text(value.value, style=COLOURS[value])


def summary(item: Summary) -> tuple[Any, ...]:
    """A row of the list of executions."""
    return item.id, item.name, status(item.status), item.agent_id, item.created_at


def _newest(execution: Execution) -> str:
    newest = execution.checkpoints[:1]
    return ", ".join(f"{point.id} {point.label or ''}".strip() for point in newest) or "none"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
