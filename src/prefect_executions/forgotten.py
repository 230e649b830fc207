"""What people read about the steps that a roll-back forgets: in forms, logs and terminals."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

NAMED = 10  # how many different steps are named; of the others the number


class ForgottenStep(Protocol):
    """A step that was done, and that a roll-back forgets."""

    @property
    def step(self) -> str:
        """Its name."""
        ...

    @property
    def undo(self) -> bool:
        """Whether it will be undone."""
        ...


def warning(checkpoint: str, steps: Iterable[ForgottenStep]) -> str:
    """The warning of a roll-back to a checkpoint.

    Args:
        checkpoint: The checkpoint.
        steps: The steps after it, at least one, newest first.
    """
    return f"The steps after {checkpoint} have happened: {counted(steps)}."


def counted(steps: Iterable[ForgottenStep]) -> str:
    """Steps by their names and numbers, those that will be undone first.

    As in `2 × charge will be undone; 29 × fetch, 29 × parse will not be undone`.
    """
    undone: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for step in steps:
        (undone if step.undo else kept)[step.step] += 1
    clauses = [
        f"{_named(undone)} will be undone" if undone else "",
        f"{_named(kept)} will not be undone" if kept else "",
    ]
    return "; ".join(filter(None, clauses))


def _named(calls: Counter[str]) -> str:
    """The names in the order in which they came, each with its number."""
    each = [f"{number:,} × {name}" if number > 1 else name for name, number in calls.items()]
    rest = list(calls.values())[NAMED:]
    if rest:
        each[NAMED:] = [f"{_plural(sum(rest), 'call')} of {_plural(len(rest), 'more step')}"]
    return ", ".join(each)


def _plural(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
