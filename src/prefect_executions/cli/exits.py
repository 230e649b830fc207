"""How a command ends: with an exit code, and a message on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from prefect_executions.errors import (
    CheckpointNotFound,
    ExecutionError,
    ExecutionNotFound,
    PrefectUnavailable,
    StateError,
    StoreNotFound,
    StoreUnavailable,
)

REFUSED, USAGE, MISSING, FORBIDDEN, AWAY = 1, 2, 3, 4, 5

_CODES: dict[type[ExecutionError], int] = {
    StateError: USAGE,
    PrefectUnavailable: AWAY,
    StoreUnavailable: AWAY,
    StoreNotFound: MISSING,
    ExecutionNotFound: MISSING,
    CheckpointNotFound: MISSING,
}


def code_of(error: ExecutionError) -> int:
    """The exit code for an error."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), REFUSED)


def end(code: int, why: str) -> NoReturn:
    """End the command.

    Args:
        code: Its exit code.
        why: The message.
    """
    print(why, file=sys.stderr)
    sys.exit(code)


@contextmanager
def clearly() -> Iterator[None]:
    """End the command with the message of a `ValueError`, without a traceback."""
    try:
        yield
    except ValueError as error:
        end(USAGE, f"{error}")
