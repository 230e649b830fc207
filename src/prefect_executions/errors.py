"""The errors of this package, as one tree.

    ExecutionError
    ├── ExecutionNotFound            no execution has this id
    │   └── ExecutionDeleted         it has been deleted, or is being deleted
    ├── CheckpointNotFound           the execution has no such checkpoint
    ├── QuestionNotFound             the execution asks nothing now
    ├── DeploymentNotFound           `create` named a deployment that Prefect does not know
    ├── UnsuitableDeployment         its flow is not known as an execution
    ├── ParametersError              the deployment's flow does not take these parameters
    ├── IdempotencyConflict          the key of a `create` was used for another request
    ├── AgentForbidden               `create` named an agent that its caller may not act for
    ├── DeploymentForbidden          a deployment that its caller may not start, or nobody may here
    ├── CursorError                  a malformed cursor, or one of another list
    ├── ExecutionConflict            the execution's status does not allow this
    ├── Superseded                   another attempt or a roll-back has taken over the execution
    ├── DurationExceeded             it was active for longer than its `max_duration_seconds`
    ├── DiffTooLarge                 two states are too large to be compared by the service
    ├── StateError                   a state that can't be kept, or does not fit the flow's model
    ├── StateChanged                 the state was changed while it was saved
    ├── InputError                   a step's input that has no stable identity
    ├── EffectRefused                a step that is not recorded, in a fork that refuses effects
    ├── ReplayMismatch               the record of a step does not fit its call
    │   └── AmbiguousCall            a call that could be mistaken for an equal one
    ├── ArchiveError                 a file is no export of an execution, or it is damaged
    ├── AnswerError                  an answer that does not fit what was asked
    ├── NotAnExecution               called outside a flow run decorated with `@execution`
    ├── UnsuitablePackage            what an extra needs is missing, or of an untested version
    ├── PrefectUnavailable           Prefect's server did not answer, or refused
    └── StoreError
        ├── StoreNotFound            Prefect has no Execution Store block of this name
        ├── AlreadyExists            an object with this key exists already
        ├── StoreUnavailable         the store did not answer, or refused
        │   └── StoreRefused         it refused, and will until its settings are changed
        ├── UnsuitableStore          the store lacks what durability depends on
        ├── ForeignStore             the store belongs to another Prefect
        └── CorruptEntry             bytes in the store are not what was written

The fields of an error are its facts, and also its `args`: so it survives pickling, as Prefect
pickles the exception of a flow run. A flow that is left on purpose (a pause, a cancellation) raises
Prefect's own `prefect.exceptions.Pause`, which is no error.
"""

from dataclasses import dataclass
from typing import ClassVar


class ExecutionError(Exception):
    """The root of the tree: catch it to catch every error of this package."""

    def __post_init__(self) -> None:
        """Make the fields the `args`, by which pickling restores an error."""
        self.args = tuple(vars(self).values())


@dataclass(eq=False, repr=False)
class ExecutionNotFound(ExecutionError):
    """No execution has this id, or it has been deleted."""

    execution_id: str

    def __str__(self) -> str:
        return f"There is no execution {self.execution_id!r}."


class ExecutionDeleted(ExecutionNotFound):
    """The execution has been deleted; a tombstone may be left of its log."""


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
class QuestionNotFound(ExecutionError):
    """The execution asks nothing now."""

    execution_id: str

    def __str__(self) -> str:
        return f"Execution {self.execution_id!r} asks nothing now, and so needs no answer."


@dataclass(eq=False, repr=False)
class DeploymentNotFound(ExecutionError):
    """`create` named a deployment that Prefect does not know."""

    deployment: str

    def __str__(self) -> str:
        return (
            f"There is no deployment {self.deployment!r}. Give `flow-name/deployment-name` or the "
            "deployment's id; `prefect deployment ls` lists them."
        )


class UnsuitableDeployment(ExecutionError):
    """The flow of the deployment is not known as an execution."""


class ParametersError(ExecutionError):
    """The flow of the deployment does not take these parameters."""


@dataclass(eq=False, repr=False)
class IdempotencyConflict(ExecutionError):
    """The key of a `create` was used for another request; nothing was created."""

    execution_id: str

    def __str__(self) -> str:
        return (
            f"Idempotency-Key: was used to create {self.execution_id!r}, with another request. "
            "Use a new key for each execution, and the same one to repeat a request."
        )


@dataclass(eq=False, repr=False)
class AgentForbidden(ExecutionError):
    """`create` named an agent that its caller may not act for; nothing was created."""

    agent_id: str | None

    def __str__(self) -> str:
        return f"agent_id: {self.agent_id!r} is none of the agents that this key may act for."


@dataclass(eq=False, repr=False)
class DeploymentForbidden(ExecutionError):
    """A deployment that the caller may not start, or that nobody may here; nothing was created."""

    deployment: str
    way_out: str

    def __str__(self) -> str:
        return f"deployment: {self.deployment!r} may not be started here. {self.way_out}"


class CursorError(ExecutionError):
    """A malformed cursor, or one of another list."""

    def __str__(self) -> str:
        return "cursor: give `next_cursor` of the page before, with the same filter and order."


@dataclass(eq=False, repr=False)
class ExecutionConflict(ExecutionError):
    """The execution's status does not allow this; nothing was changed."""

    execution_id: str
    operation: str
    status: str
    hint: str

    def __str__(self) -> str:
        return f"Can't {self.operation} {self.execution_id!r}: it is {self.status}. {self.hint}"


@dataclass(eq=False, repr=False)
class Superseded(ExecutionError):
    """Another attempt or a roll-back has taken over the execution; nothing was written.

    By `is_stale_write_owner_error` LangGraph's tools know that the writer is no longer the owner.
    """

    execution_id: str
    attempt: int
    by: str

    is_stale_write_owner_error: ClassVar[bool] = True

    def __str__(self) -> str:
        return (
            f"Attempt {self.attempt} of {self.execution_id!r} may no longer write: "
            f"superseded by {self.by}."
        )


@dataclass(eq=False, repr=False)
class DurationExceeded(ExecutionError):
    """The execution was active for longer than `max_duration_seconds`; its state is saved."""

    execution_id: str
    max_duration_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.execution_id!r} was active for longer than max_duration_seconds = "
            f"{self.max_duration_seconds:g}. What it had published is saved."
        )


@dataclass(eq=False, repr=False)
class StateError(ExecutionError):
    """A state that can't be kept as it is, or does not fit the flow's model."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(eq=False, repr=False)
class DiffTooLarge(ExecutionError):
    """Two states are too large to be compared here."""

    size: int
    most: int

    def __str__(self) -> str:
        return (
            f"The two states have {self.size} bytes together, and a diff is made of at most "
            f"{self.most}. Read both checkpoints, and compare them where you are."
        )


@dataclass(eq=False, repr=False)
class StateChanged(ExecutionError):
    """The state was changed while it was saved; nothing was saved. Another attempt may succeed."""

    path: str

    def __str__(self) -> str:
        return (
            f"{self.path}: the state was changed while it was saved, by another thread or task. "
            "Let steps return what they find, and change the state where the flow gets it."
        )


@dataclass(eq=False, repr=False)
class InputError(ExecutionError):
    """An input of a step that a later attempt could not recognise."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(eq=False, repr=False)
class EffectRefused(ExecutionError):
    """A step that is not recorded, where effects are refused: it was not carried out."""

    step: str

    def __str__(self) -> str:
        return (
            f"The step {self.step!r} is not recorded, and this execution refuses effects: it was "
            "not carried out. Fork with effects 'replay' or 'record' to let it run."
        )


@dataclass(eq=False, repr=False)
class ReplayMismatch(ExecutionError):
    """The record of a step does not fit its call: the code has changed since."""

    step: str
    problem: str

    def __str__(self) -> str:
        return f"The step {self.step!r} can't be replayed: {self.problem}"


@dataclass(eq=False, repr=False)
class AmbiguousCall(ReplayMismatch):
    """A call that another attempt could take for an equal one: nothing was done yet."""

    way_out: str

    def __str__(self) -> str:
        return (
            f"The call of {self.step!r} could be mistaken for another: {self.problem} "
            f"{self.way_out}"
        )


@dataclass(eq=False, repr=False)
class ArchiveError(ExecutionError):
    """A file is no export of an execution, or it is damaged; nothing was made of it."""

    problem: str

    def __str__(self) -> str:
        return f"This file can't be taken for an exported execution: {self.problem}"


@dataclass(eq=False, repr=False)
class AnswerError(ExecutionError):
    """An answer that does not fit what was asked; nothing was changed."""

    problem: str

    def __str__(self) -> str:
        return f"input: {self.problem}"


class NotAnExecution(ExecutionError):
    """`execution.current()` was called where no execution runs, or `@execution` has no `@flow`."""


@dataclass(eq=False, repr=False)
class UnsuitablePackage(ExecutionError):
    """A package that an extra needs is missing, or has a version that it is not tested with."""

    package: str
    installed: str | None
    needed: str
    extra: str

    def __str__(self) -> str:
        found = "is not installed" if self.installed is None else f"{self.installed} is installed"
        return (
            f"{self.package} {found}, and prefect-executions is tested with {self.package} "
            f"{self.needed}: pip install 'prefect-executions[{self.extra}]'"
        )


@dataclass(eq=False, repr=False)
class PrefectUnavailable(ExecutionError):
    """Prefect's server did not answer, or refused."""

    problem: str

    def __str__(self) -> str:
        return f"Prefect does not answer, or refuses: {self.problem}"


class StoreError(ExecutionError):
    """An error of the store that keeps the logs."""


@dataclass(eq=False, repr=False)
class StoreNotFound(StoreError):
    """Prefect has no Execution Store block of this name."""

    name: str

    def __str__(self) -> str:
        return (
            f"There is no Execution Store block {self.name!r}. Make one by "
            "`prefect-executions store create`, in the Prefect UI, or by "
            "`ExecutionStore(…).save(…)`; or name another in PREFECT_INTEGRATIONS_EXECUTIONS_STORE."
        )


@dataclass(eq=False, repr=False)
class AlreadyExists(StoreError):
    """An object with this key exists already; nothing was written."""

    key: str

    def __str__(self) -> str:
        return f"The object {self.key!r} exists already."


@dataclass(eq=False, repr=False)
class StoreUnavailable(StoreError):
    """The store did not answer, or refused; a write may or may not have happened.

    `mend` says what to do about it, with the command; it is empty where waiting is all.
    """

    operation: str
    problem: str
    mend: str = ""

    def __str__(self) -> str:
        return " ".join(
            filter(None, [f"The store could not {self.operation}: {self.problem}", self.mend])
        )


class StoreRefused(StoreUnavailable):
    """The store refused, and will until somebody changes its settings; nothing was written.

    The credentials are wrong or lack a right, or there is no such bucket.
    """


class UnsuitableStore(StoreError):
    """The store lacks what durability depends on, so it is not used."""


@dataclass(eq=False, repr=False)
class ForeignStore(StoreError):
    """The store belongs to another Prefect, so this one does not use it; nothing was changed."""

    owner: str
    here: str

    def __str__(self) -> str:
        return (
            f"The store belongs to another Prefect: its marker names {self.owner}, and this one is "
            f"{self.here}. Give the Execution Store of this one another `prefix` or `directory`; "
            "or, if the other one is gone for good, take its store over: by "
            "`prefect-executions gc --adopt`, or `store.adopt()` before `store.save(…)`."
        )


@dataclass(eq=False, repr=False)
class CorruptEntry(StoreError):
    """Bytes in the store are damaged, or in a format that this version can't read."""

    key: str
    problem: str

    def __str__(self) -> str:
        return f"The log entry {self.key!r} can't be read: {self.problem}"
