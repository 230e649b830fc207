"""Parts of a longer check: each is done, and printed with its time, until one fails."""

import subprocess
from collections.abc import Callable, Iterable
from time import monotonic

Part = tuple[str, Callable[[], str | None]]
"""What people see as its name; and what does it, and returns what is printed beside the time."""


class Failed(Exception):
    """A part did not do what was expected; the message says what that was, and what was said."""


def require(holds: bool, what: str, said: str = "") -> None:
    """Fail with what was expected, and what was said instead.

    Raises:
        Failed: It does not hold.
    """
    if not holds:
        raise Failed(f"{what}\n{said}" if said else what)


def carry_out(parts: Iterable[Part], *, width: int) -> int:
    """Do the parts, and return the exit code: 1 after the first that fails.

    Args:
        parts: The parts.
        width: Of their names, in characters.
    """
    start = monotonic()
    for name, act in parts:
        began = monotonic()
        try:
            told = act()
        except (Failed, OSError, subprocess.TimeoutExpired) as error:
            print(f"✗ {name}: {error}", flush=True)
            return 1
        print(f"✓ {name:{width}}{monotonic() - began:6.1f} s  {told or ''}".rstrip(), flush=True)
    print(f"  {'all of it':{width}}{monotonic() - start:6.1f} s")
    return 0
