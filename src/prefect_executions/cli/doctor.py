"""The command that checks an installation."""

import sys

from rich.text import Text

from prefect_executions.cli.exits import REFUSED, USAGE, end
from prefect_executions.cli.options import NONE, CommonOptions
from prefect_executions.cli.output import Output, harmless

_COLOURS = {"right": "green", "note": "yellow", "unknown": "yellow", "wrong": "red"}


def doctor(*, common: CommonOptions = NONE) -> None:
    """Check Prefect, store, workers, service, supervisor and clocks; 1 if something is wrong."""
    from prefect_executions.client.profiles import find  # noqa: PLC0415
    from prefect_executions.doctor import Grade, examine  # noqa: PLC0415

    try:
        service = find(common.url, profile=common.profile)
    except ValueError as error:
        end(USAGE, f"{error}")
    findings = examine(service)
    lines = Text()
    for each in findings:
        lines.append(f"{each.grade:<8}", style=_COLOURS[each.grade])
        lines.append(f"{each.check:<12}", style="bold")
        lines.append(harmless(f"{each.where}: {each.what}\n"))
        if each.mend:
            lines.append(harmless(f"{'':8}{'mend it:':<12}{each.mend}\n"))
    lines.rstrip()
    Output(as_json=common.json).show(findings, lines)
    if any(each.grade is Grade.WRONG for each in findings):
        sys.exit(REFUSED)
