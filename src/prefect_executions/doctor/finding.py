"""What a check has found."""

from enum import StrEnum

from pydantic import BaseModel


class Grade(StrEnum):
    """How a thing that was checked is."""

    RIGHT = "right"
    NOTE = "note"  # it works, and could be better
    UNKNOWN = "unknown"  # it could not be checked, since something else is wrong
    WRONG = "wrong"


class Finding(BaseModel):
    """What a check has found about one thing.

    Attributes:
        check: What was checked: `Prefect`, `store`, `workers`, …
        grade: How it is.
        where: The address, block, work pool or setting.
        what: What is right or wrong, as a sentence.
        mend: The command that mends it, or None where there is nothing to mend.
    """

    check: str
    grade: Grade
    where: str
    what: str
    mend: str | None = None


def right(check: str, where: str, what: str) -> Finding:
    """A thing that is as it should be."""
    return Finding(check=check, grade=Grade.RIGHT, where=where, what=what)


def note(check: str, where: str, what: str, mend: str) -> Finding:
    """A thing that works, and could be better."""
    return Finding(check=check, grade=Grade.NOTE, where=where, what=what, mend=mend)


def wrong(check: str, where: str, what: str, mend: str) -> Finding:
    """A thing that is wrong, with the command that mends it."""
    return Finding(check=check, grade=Grade.WRONG, where=where, what=what, mend=mend)


def unknown(check: str, where: str, what: str) -> Finding:
    """A thing that could not be checked."""
    return Finding(check=check, grade=Grade.UNKNOWN, where=where, what=what)
