"""What commands print: tables and text for people, JSON for programs."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefect_executions.models import Execution, Status, Summary

COLOURS = {
    Status.RUNNING: "blue",
    Status.PAUSED: "yellow",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.TERMINATED: "magenta",
}


# Control characters, which a terminal would obey.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Output:
    """Prints the output of a command.

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
        cells = [[_cell(cell) for cell in row] for row in rows]
        if not self.as_json and not self.console.is_terminal and cells:
            for row in cells:
                print(*(" ".join(f"{cell}".split()) for cell in row), sep="\t")
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns.split():
            table.add_column(column.upper(), overflow="fold", no_wrap=column == "id")
        for row in cells:
            table.add_row(*row)
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
                table.add_row(name, _cell(value))
        self.show(execution, table)


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


def _cell(value: Any) -> Text:
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("")
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}")
    return Text(harmless(f"{value}"))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
