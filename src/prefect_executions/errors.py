"""The errors of this package, one tree.

    ExecutionError
    ├── ExecutionNotFound            no execution has this id
    │   └── ExecutionDeleted         it has been deleted, or is being deleted
    ├── CheckpointNotFound           the execution has no such checkpoint
    ├── DeploymentNotFound           create named a deployment that Prefect does not know
    ├── ParametersError              the deployment's flow does not take these parameters
    ├── IdempotencyConflict          a key of create was used before, for something else
    ├── AgentForbidden               create named an agent that its caller may not act for
    ├── CursorError                  a cursor that no list has given, or for another list
    ├── ExecutionConflict            the execution's status does not allow this
    ├── Superseded                   a newer attempt, or a roll-back, has taken the execution over
    ├── DurationExceeded             it was active for longer than `config.max_duration_seconds`
    ├── StateError                   a state that can't be kept, or does not fit the flow's model
    ├── InputError                   a step's input that has no stable identity
    ├── ReplayMismatch               what is recorded of a step does not fit its call
    ├── AnswerError                  an answer that does not fit what was asked
    ├── NotAnExecution               called outside a flow run decorated with `@execution`
    ├── PrefectUnavailable           Prefect's server did not answer, or refused
    └── StoreError
        ├── StoreNotFound            Prefect has no Execution Store block of this name
        ├── AlreadyExists            an object with this key is there already
        ├── StoreUnavailable         the store did not answer, or refused
        ├── UnsuitableStore          the store breaks a law that durability rests on
        └── CorruptEntry             bytes in the store are not what was written

The facts of an error are its fields, and so its `args`: it survives pickling, which Prefect does
with a flow run's exception. What leaves a flow on purpose (a pause, a cancellation) is not an error
and is raised as Prefect's own `prefect.exceptions.Pause`.
"""

from dataclasses import dataclass


class ExecutionError(Exception):
    """The root: catch it to catch whatever this package raises."""

    def __post_init__(self) -> None:
        """Let the fields be what pickling makes it of, however they were given."""
        self.args = tuple(vars(self).values())


@dataclass(eq=False, repr=False)
class ExecutionNotFound(ExecutionError):
    """No execution has this id, or it has been deleted."""

    execution_id: str

    def __str__(self) -> str:
        return f"There is no execution {self.execution_id!r}."


class ExecutionDeleted(ExecutionNotFound):
    """The execution has been deleted; of its log the tombstone may be left."""


@dataclass(eq=False, repr=False)
class CheckpointNotFound(ExecutionError):
    """The execution has no checkpoint with this id."""

    execution_id: str
    checkpoint_id: str

    def __str__(self) -> str:
        return (
            f"Execution {self.execution_id!r} has no checkpoint {self.checkpoint_id!r}. "
            "GET the execution to see its checkpoints."
        )


@dataclass(eq=False, repr=False)
class DeploymentNotFound(ExecutionError):
    """Create named a deployment that Prefect does not know."""

    deployment: str

    def __str__(self) -> str:
        return (
            f"There is no deployment {self.deployment!r}. Give `flow-name/deployment-name` or the "
            "deployment's id; `prefect deployment ls` lists them."
        )


class ParametersError(ExecutionError):
    """The flow of the deployment does not take these parameters."""


@dataclass(eq=False, repr=False)
class IdempotencyConflict(ExecutionError):
    """A key of create was used before, for something else; nothing was created."""

    execution_id: str

    def __str__(self) -> str:
        return (
            f"Idempotency-Key: was used to create {self.execution_id!r}, with another request. "
            "Use a new key for each execution, and the same one to repeat a request."
        )


@dataclass(eq=False, repr=False)
class AgentForbidden(ExecutionError):
    """Create named an agent that its caller may not act for; nothing was created."""

    agent_id: str | None

    def __str__(self) -> str:
        return f"agent_id: {self.agent_id!r} is none of the agents that this key may act for."


class CursorError(ExecutionError):
    """A cursor that no list has given, or that belongs to another list."""

    def __str__(self) -> str:
        return "cursor: give `next_cursor` of the page before, with the same filter and order."


@dataclass(eq=False, repr=False)
class ExecutionConflict(ExecutionError):
    """What was asked is not possible in the execution's status; nothing was changed."""

    execution_id: str
    operation: str
    status: str
    hint: str

    def __str__(self) -> str:
        return f"Can't {self.operation} {self.execution_id!r}: it is {self.status}. {self.hint}"


@dataclass(eq=False, repr=False)
class Superseded(ExecutionError):
    """Another attempt or a roll-back has taken the execution over; nothing was written."""

    execution_id: str
    attempt: int
    by: str

    def __str__(self) -> str:
        return (
            f"Attempt {self.attempt} of {self.execution_id!r} may no longer write: "
            f"superseded by {self.by}."
        )


@dataclass(eq=False, repr=False)
class DurationExceeded(ExecutionError):
    """The execution was active for longer than it may be; its state is saved."""

    execution_id: str
    max_duration_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.execution_id!r} was active for longer than max_duration_seconds = "
            f"{self.max_duration_seconds:g}. What it had published is saved."
        )


@dataclass(eq=False, repr=False)
class StateError(ExecutionError):
    """A state that can't be kept as it is, or does not fit the model that the flow names."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(eq=False, repr=False)
class InputError(ExecutionError):
    """An input of a step that no later attempt could recognise."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(eq=False, repr=False)
class ReplayMismatch(ExecutionError):
    """What is recorded of a step does not fit its call: the code has changed since."""

    step: str
    problem: str

    def __str__(self) -> str:
        return f"The step {self.step!r} can't be replayed: {self.problem}"


@dataclass(eq=False, repr=False)
class AnswerError(ExecutionError):
    """An answer that does not fit what was asked; nothing was changed."""

    problem: str

    def __str__(self) -> str:
        return f"input: {self.problem}"


class NotAnExecution(ExecutionError):
    """`execution.current()` where no execution runs, or `@execution` without `@flow`."""


@dataclass(eq=False, repr=False)
class PrefectUnavailable(ExecutionError):
    """Prefect's server did not answer, or refused."""

    problem: str

    def __str__(self) -> str:
        return f"Prefect does not answer, or refuses: {self.problem}"


class StoreError(ExecutionError):
    """Something about the place where the log is kept."""


@dataclass(eq=False, repr=False)
class StoreNotFound(StoreError):
    """Prefect has no Execution Store block of this name."""

    name: str

    def __str__(self) -> str:
        return (
            f"There is no Execution Store block {self.name!r}. Save one in the Prefect UI or by "
            "`ExecutionStore(…).save(…)`, or name another in PREFECT_INTEGRATIONS_EXECUTIONS_STORE."
        )


@dataclass(eq=False, repr=False)
class AlreadyExists(StoreError):
    """An object with this key is there already; nothing was written."""

    key: str

    def __str__(self) -> str:
        return f"The object {self.key!r} exists already."


@dataclass(eq=False, repr=False)
class StoreUnavailable(StoreError):
    """The store did not answer or refused; whether a write took place is not known."""

    operation: str
    problem: str

    def __str__(self) -> str:
        return f"The store could not {self.operation}: {self.problem}"


class UnsuitableStore(StoreError):
    """The store breaks a law that durability rests on, so it is refused."""


@dataclass(eq=False, repr=False)
class CorruptEntry(StoreError):
    """Bytes in the store are damaged, or of a format that this version can not read."""

    key: str
    problem: str

    def __str__(self) -> str:
        return f"The log entry {self.key!r} can't be read: {self.problem}"
