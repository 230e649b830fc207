"""Whether the clocks of this machine, of Prefect's server and of the store agree."""

from collections.abc import Mapping
from datetime import timedelta

from prefect_executions.doctor.finding import Finding, right, unknown, wrong
from prefect_executions.prefect.server import Skew

CLOCKS = "clocks"
MOST = timedelta(seconds=5)  # by which clocks may differ: heartbeats are judged by them


def check_clocks(skews: Mapping[str, Skew | None]) -> list[Finding]:
    """Compare the clock of this machine with those of others.

    Args:
        skews: The others, by their names; None of one that does not say the time.
    """
    known = {name: skew for name, skew in skews.items() if skew is not None}
    findings = [
        unknown(CLOCKS, name, "it does not say the time.") for name in skews if name not in known
    ]
    off = {name: skew for name, skew in known.items() if abs(skew.ahead) - skew.margin > MOST}
    if agreeing := [name for name in known if name not in off]:
        what = f"{MOST.seconds} s or less from that of this machine."
        findings.append(right(CLOCKS, ", ".join(agreeing), what))
    # Where all others agree against this machine, it is this one that is wrong.
    ours = len(off) == len(known) > 1
    for name, skew in off.items():
        seconds = skew.ahead.total_seconds()
        side = "ahead of" if seconds > 0 else "behind"
        on = "on this machine" if ours else f"on this machine or that of {name}"
        what = f"its clock is {abs(seconds):,.0f} s {side} that of this machine."
        findings.append(wrong(CLOCKS, name, what, f"sudo timedatectl set-ntp true, {on}"))
    return findings
