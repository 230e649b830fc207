"""Processes that write to logs in a directory, and are killed with SIGKILL at any moment.

    python -m killed_writers DIRECTORY KILLS EXECUTION…

Prints what they have told to be durable: of each checkpoint the execution, the number, and the
SHA-256 of its state. A program of its own, since it forks: pytest may have threads.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from random import Random

from prefect_executions.errors import Superseded
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.directory import DirectoryObjects

WRITERS = 2  # of each execution
_SAVES = 12  # checkpoints of an attempt, at most
_FORK = get_context("fork")


def write(path: Path, execution_id: str, seed: str, told: Connection) -> None:
    """Begin attempts of an execution, and save checkpoints in each; others do the same."""
    random = Random(seed)
    log = ExecutionLog(DirectoryObjects(path), execution_id)
    number = count()
    while True:
        head = log.attempt()
        for _ in range(random.randrange(_SAVES)):
            state = b'"%s %d %s"' % (seed.encode(), next(number), b"x" * random.randrange(5_000))
            try:
                head = log.checkpoint(head, state)
            except Superseded:
                break
            told.send(f"{execution_id} {head.entry.seq} {sha256(state).hexdigest()}")


class Writer:
    """One process that writes."""

    def __init__(self, path: Path, execution_id: str, seed: str) -> None:
        self.execution_id = execution_id
        self._told, tell = _FORK.Pipe(duplex=False)
        self._process: ForkProcess = _FORK.Process(
            target=write, args=(path, execution_id, seed, tell)
        )
        self._process.start()
        tell.close()

    def next(self) -> str:
        """What is durable next."""
        told: str = self._told.recv()
        return told

    def kill(self) -> Iterator[str]:
        """Kill it; then what it has told before, but for what it was telling just then."""
        self._process.kill()
        self._process.join()
        assert self._process.exitcode == -9, self._process.exitcode
        with suppress(EOFError, OSError):
            while True:
                yield self.next()


def main(path: Path, kills: int, executions: list[str]) -> None:
    """Kill and start writers."""
    random, seeds = Random(1), count()
    writers = [Writer(path, id_, f"{next(seeds)}") for id_ in executions for _ in range(WRITERS)]
    for _ in range(kills):
        doomed = writers.pop(random.randrange(len(writers)))
        for _ in range(random.randrange(4)):
            print(doomed.next())
        print(*doomed.kill(), sep="\n")  # at once, wherever it is by now
        writers.append(Writer(path, doomed.execution_id, f"{next(seeds)}"))
    for writer in writers:
        print(*writer.kill(), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
