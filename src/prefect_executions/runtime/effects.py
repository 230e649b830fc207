"""Whether steps that are not recorded may run: not in a fork that refuses effects."""

from prefect_executions.config import Effects
from prefect_executions.errors import EffectRefused
from prefect_executions.log.entry import Entry


class EffectGuard:
    """Refuses steps that are not recorded, where an execution is a fork that refuses effects.

    Args:
        created: Entry 0 of the execution's log.
    """

    def __init__(self, created: Entry) -> None:
        fork = (created.meta or {}).get("fork", {})
        self._refuses = fork.get("effects") == Effects.REFUSE
        self._allowed = frozenset(fork.get("allow", ()))
        self._refused: EffectRefused | None = None

    def require(self, step: str) -> None:
        """Check that a step that is not recorded may run.

        Raises:
            EffectRefused: It may not.
        """
        if self._refuses and step not in self._allowed:
            self._refused = EffectRefused(step)
            raise self._refused

    def require_none(self) -> None:
        """Check that nothing was refused: a flow that has caught the error goes on without a step.

        Raises:
            EffectRefused: The step that was refused last.
        """
        if self._refused is not None:
            raise self._refused
