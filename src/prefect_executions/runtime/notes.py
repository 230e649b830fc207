"""What an adapter of an agent framework keeps with the checkpoints of the execution that runs."""

from collections.abc import Iterable, Sequence
from functools import partial

from prefect_executions.log.journal import Outcome, Record
from prefect_executions.runtime.attempt import current_attempt
from prefect_executions.runtime.run import Run
from prefect_executions.runtime.writer import Durability


class Notes:
    """The notes of the execution that this code runs in, beside its state and its steps.

    They are made by `log.journal.note`, and written in their order. A roll-back forgets those that
    came after its checkpoint, and a fork has those before it.

    Attributes:
        run: The execution, as its flow sees it.

    Raises:
        NotAnExecution: no execution runs here.
    """

    def __init__(self) -> None:
        attempt = current_attempt()
        self.run: Run[object] = attempt.run
        self._checkpoints = attempt.run._checkpoints

    @property
    def durability(self) -> Durability:
        """When what is saved is durable."""
        return self._checkpoints.durability

    def read(self) -> list[Record]:
        """All notes, after those that were not written yet have been.

        Raises:
            Pause: the execution is another process's.
            StoreUnavailable: they could not be written.
        """
        self._checkpoints.flush()
        log, records = self._checkpoints.log, self._checkpoints.head.records().values()
        return [log.with_result(one) for one in records if one.outcome is Outcome.NOTE]

    def add(self, notes: Sequence[Record]) -> None:
        """Write notes; they are durable when this returns, unless the durability is another.

        Raises:
            Pause, StoreUnavailable: see `Run.checkpoint`.
        """
        self._checkpoints.require_open()
        self._checkpoints.record(partial(list, notes))

    def checkpoint(self, notes: Sequence[Record], *, label: str) -> None:
        """Save the state, and notes with it, in one entry: see `Run.checkpoint`."""
        self._checkpoints.require_open()
        self._checkpoints.save(self.run._take, label, notes)
        self.run._time_limit.require()

    def states_at(self, entries: Iterable[int]) -> dict[int, bytes]:
        """The states after entries, as JSON; those that are gone are left out."""
        return self._checkpoints.log.states_at(entries)
