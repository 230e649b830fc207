"""What the demo shows, in a terminal and elsewhere."""

from io import StringIO

import pytest
from rich.console import Console

from prefect_executions.local.display import Display

LINK = "http://127.0.0.1:26532/runs/flow-run/f9ac5e32-f7a7-42b0-9dd2-5dd3e80505d9"


def shown(*, is_terminal: bool) -> str:
    """What it prints of a run that is paused after 17 of 40."""
    out = StringIO()
    console = Console(file=out, width=80, force_terminal=is_terminal, highlight=False)
    with Display(console) as display:
        display.wait("It saves checkpoints")
        display.add("disturbed", 40)
        display.update("disturbed", 17)
        display.mark("disturbed", "‖", "paused [red] :warning:")
        display.link(LINK)
    display.close(Proved="the same")
    return out.getvalue()


def test_without_a_terminal_there_are_plain_lines_alone() -> None:
    lines = shown(is_terminal=False).splitlines()

    assert [line[5:] for line in lines[:1]] == [" s  ‖ paused [red] :warning:"]
    assert lines[1:] == [f"  {LINK}", "", "Proved   the same"]


@pytest.mark.parametrize("text", ["17/40", "disturbed", "It saves checkpoints …", LINK])
def test_a_terminal_shows_the_progress_below_the_timeline(text: str) -> None:
    assert text in shown(is_terminal=True)
