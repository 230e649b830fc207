"""The Markdown page of an execution, shown with its flow run in the Prefect UI."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.filesize import decimal

from prefect_executions import serialization
from prefect_executions.config import Status
from prefect_executions.ids import checkpoint_id
from prefect_executions.log.entry import Entry
from prefect_executions.settings import ExecutionsSettings

NEWEST = 50  # how many checkpoints the page shows
_BAR = 20  # characters of a full progress bar
_READ = 4 << 20  # bytes; a larger state is not searched for its progress
_MESSAGE = 500  # characters of a state's message
_NEXT = {
    Status.PAUSED: "**Resume** asks where to continue from, and starts a worker.",
    Status.FAILED: "**Retry** continues from the newest checkpoint.",
    Status.TERMINATED: "**Retry** continues from the newest checkpoint.",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A checkpoint in the table.

    Args:
        id: The checkpoint's id.
        label: The checkpoint's label.
        at: When it was saved.
        attempt: The attempt that it belongs to.
        size: Bytes of its state as JSON.
        written: Bytes of its entry in the store.
        saved_by: Who saved it by hand; None for the attempt itself.
    """

    id: str
    label: str | None
    at: datetime
    attempt: int
    size: int
    written: int
    saved_by: str | None = None

    @classmethod
    def of(cls, entry: Entry) -> "Row":
        """The row of a checkpoint's entry."""
        return cls(
            checkpoint_id(entry.seq),
            entry.label,
            entry.at,
            entry.attempt,
            entry.size,
            entry.stored,
            entry.saved_by,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """What the page shows of an execution.

    Args:
        execution_id: The execution.
        status: Its status.
        message: The message of its state in Prefect, if any.
        attempt: The number of its newest attempt.
        active_seconds: How long it has been active.
        state: Its state, as JSON.
        checkpoints: Its newest checkpoints, newest first.
    """

    execution_id: str
    status: Status
    message: str | None = None
    attempt: int
    active_seconds: float
    state: bytes
    checkpoints: Sequence[Row]

    def summary(self) -> str:
        """The page in one line, without Markdown."""
        return f"{self.status} · {self._facts()}"

    def _facts(self) -> str:
        facts = [
            f"attempt {self.attempt}" if self.attempt else "not begun",
            f"{duration(self.active_seconds)} active",
            f"state {decimal(len(self.state))}",
        ]
        return " · ".join(facts)

    def text(self) -> str:
        """The page, as Markdown."""
        url = _service_url()
        parts = [f"**{self.status}** · {self._facts()}"]
        if self.message and self.status.ended:
            parts.append(f"> {_plain(self.message[:_MESSAGE])}")
        if bar := _bar(self.progress()):
            parts.append(bar)
        if hint := _NEXT.get(self.status):
            parts.append(f"{hint} {self._way_back()}")
        parts.append(self._links(url))
        parts.append(self._table(url))
        return "\n\n".join(part for part in parts if part)

    def progress(self) -> tuple[float, str] | None:
        """See `progress`; None where the state is too large to be searched for it."""
        return progress(serialization.load(self.state)) if len(self.state) <= _READ else None

    def _way_back(self) -> str:
        if self.status is Status.PAUSED:
            return ""
        return (
            "To go back further: `prefect-executions resume "
            f"{self.execution_id} --checkpoint-id ckpt_…`, or the inspector."
        )

    def _links(self, url: str | None) -> str:
        if url is None:
            return f"`{self.execution_id}`"
        inspector, rest = f"{url}/ui/{self.execution_id}", f"{url}/v1/execution/{self.execution_id}"
        return f"`{self.execution_id}` · [Inspector]({inspector}) · [REST]({rest})"

    def _table(self, url: str | None) -> str:
        if not self.checkpoints:
            return "No checkpoint yet."
        lines = [
            "| Checkpoint | Label | Saved (UTC) | Attempt | State | Written |",
            "| --- | --- | --- | ---: | ---: | ---: |",
        ]
        for row in self.checkpoints[:NEWEST]:
            name = row.id.replace("_", r"\_")
            if url is not None:
                name = f"[{name}]({url}/ui/{self.execution_id}/{row.id})"
            cells = [
                name,
                _plain(row.label or ""),
                f"{row.at:%Y-%m-%d %H:%M:%S}",
                f"{row.attempt}" + (f", by {_plain(row.saved_by)}" if row.saved_by else ""),
                decimal(row.size),
                decimal(row.written),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time span as text."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def progress(state: Any) -> tuple[float, str] | None:
    """The progress that a state names, as a fraction and as text. Returns None when it names none.

    A state names it by `progress`, as a fraction or in per cent, or by `done` and `total`, each a
    number or a list of items.
    """
    if not isinstance(state, dict):
        return None
    share = _number(state.get("progress"))
    if share is not None and 0 <= share <= 100:
        fraction = share if share <= 1 else share / 100
        return fraction, f"{fraction:.0%}"
    done, total = _count(state.get("done")), _count(state.get("total"))
    if done is None or not total or not 0 <= done <= total:
        return None
    return done / total, f"{done / total:.0%} ({done:g} of {total:g})"


def _bar(known: tuple[float, str] | None) -> str:
    if known is None:
        return ""
    full = int(known[0] * _BAR)
    return f"{'▰' * full}{'▱' * (_BAR - full)} {known[1]}"


def _count(value: Any) -> float | None:
    if isinstance(value, list | dict):
        return len(value)
    return _number(value)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _plain(text: str) -> str:
    """A text escaped for Markdown, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$-])", r"\\\1", " ".join(text.split()))


def _service_url() -> str | None:
    url = ExecutionsSettings().service_url
    return url.rstrip("/") if url else None
