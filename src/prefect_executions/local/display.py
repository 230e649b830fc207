"""What people see of the demo: a timeline and, in a terminal, the progress of its runs below it."""

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.spinner import Spinner
from rich.text import Text

_STYLES = {"✓": "bold green", "✗": "bold red", "‖": "yellow", "↶": "yellow", "▶": "cyan"}


class Display:
    """A context manager; where there is no terminal it prints plain lines, and no progress.

    Args:
        console: Where it prints; by default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._start = monotonic()
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[track]}"),
            console=self._console,
            expand=True,
        )
        self._bars: dict[str, TaskID] = {}
        self._tracks: dict[str, str] = {}
        self._step = Spinner("dots", style="cyan")
        self._live = Live(
            Group(self._progress, self._step),
            console=self._console,
            transient=True,
            refresh_per_second=10,
        )

    def __enter__(self) -> Self:
        """Begin to show progress."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the progress; the timeline stays."""
        self._live.stop()

    @property
    def seconds(self) -> float:
        """The time since it was made."""
        return monotonic() - self._start

    def say(self, text: str, *, sign: str = " ") -> None:
        """Add a line to the timeline."""
        line = Text.assemble(
            (f"{self.seconds:5.1f} s  ", "dim"), (sign, _STYLES.get(sign, "")), f" {text}"
        )
        self._console.print(line, soft_wrap=True)

    def link(self, url: str) -> None:
        """Print an address in a line of its own, which a terminal does not break."""
        self._console.print(Text(f"  {url}"), soft_wrap=True)

    def wait(self, text: str) -> None:
        """Say what is waited for, in the last line of a terminal."""
        self._step.update(text=Text(f"{text} …"))

    def add(self, run: str, total: int) -> None:
        """Show the progress of a run."""
        self._bars[run] = self._progress.add_task(f"{run:11}", total=total, track="")

    def update(self, run: str, done: int) -> None:
        """Show how far a run is."""
        self._progress.update(self._bars[run], completed=done)

    def mark(self, run: str, sign: str, text: str) -> None:
        """Something has happened to a run: a line of the timeline, and a sign beside its bar."""
        self._tracks[run] = f"{self._tracks.get(run, '')}{sign}"
        self._progress.update(self._bars[run], track=self._tracks[run])
        self.say(text, sign=sign)

    def close(self, **lines: str) -> None:
        """Print the last lines, each with its heading."""
        self._console.print()
        for heading, text in lines.items():
            line = Text.assemble((f"{heading:9}", "bold"), text)
            self._console.print(line, soft_wrap=True)
