"""Which executions run in a process of this machine, and of which that process has ended.

It is for those without a deployment: where no worker watches the process, whoever continues the
execution has to know whether it lives. A process holds a lock on a file as long as an attempt
lasts. The system gives the lock back, however the process ends. The file stays, with the Running
state that the attempt owned: so whoever gets the lock knows that this attempt has ended.

It is evidence for people, and no more: two processes of one execution are kept apart by its log.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import UUID

from prefect.logging import get_run_logger
from prefect.settings import get_current_settings

try:
    import fcntl
except ImportError:  # Windows: heartbeats alone tell there
    fcntl = None  # type: ignore[assignment]

_KEPT = 7 * 24 * 3600.0  # seconds that a file stays
_TRIES = 20  # whoever only looks holds the lock for a moment
_PAUSE = 0.01  # seconds between two tries


def hold(execution_id: str, state_id: str) -> Callable[[], None]:
    """Hold the lock of an execution; returns what gives it back.

    Args:
        execution_id: The execution.
        state_id: The id of the Running state that this process owns, in hex.
    """
    if fcntl is None:
        return _nothing
    try:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        _remove_old(folder)
        descriptor = os.open(folder / execution_id, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        get_run_logger().debug("No process can see that this one is alive: %s", error)
        return _nothing
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, state_id.encode())
            break
        time.sleep(_PAUSE)
    # Otherwise an earlier process is still at work: it leaves as soon as it looks at the log.
    return lambda: os.close(descriptor)


def is_held(execution_id: str) -> bool:
    """Whether a process of this machine runs an execution now."""
    return _look(execution_id)[0]


def ended_here(execution_id: str) -> UUID | None:
    """The Running state of an attempt that was begun on this machine, and whose process has ended.

    None where no attempt is known, or its process is alive.
    """
    held, state_id = _look(execution_id)
    return None if held else state_id


def _look(execution_id: str) -> tuple[bool, UUID | None]:
    """Whether the lock is held, and the state in the file."""
    if fcntl is None:
        return False, None
    try:
        descriptor = os.open(_folder() / execution_id, os.O_RDONLY)
    except OSError:
        return False, None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        text = os.read(descriptor, 64).decode()
    except BlockingIOError:
        return True, None
    finally:
        os.close(descriptor)
    with suppress(ValueError):
        return False, UUID(text)
    return False, None  # it died before it had written


def _folder() -> Path:
    return get_current_settings().home / "executions-running"


@cache
def _remove_old(folder: Path) -> None:
    """Remove the files of what has ended long ago; once in a process."""
    now = time.time()
    for file in folder.iterdir():
        with suppress(OSError):
            if now - file.stat().st_mtime > _KEPT and not is_held(file.name):
                file.unlink()


def _nothing() -> None:
    pass
