"""The execution that a flow run is, as the flow's author sees it: state, checkpoints, pauses."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

from prefect_executions.background import in_thread
from prefect_executions.config import ExecutionConfig, OnTimeout
from prefect_executions.ids import checkpoint_id
from prefect_executions.labels import require_label
from prefect_executions.log.entry import Entry
from prefect_executions.runtime.checkpoints import Checkpointer
from prefect_executions.runtime.pauses import Pauses
from prefect_executions.runtime.time_limit import TimeLimit
from prefect_executions.serialization import JsonType

M = TypeVar("M", bound=BaseModel)
S = TypeVar("S")


class Run(Generic[S]):
    """The execution that a flow run is, seen from inside.

    Attributes:
        id: The execution's id.
        attempt: The number of this attempt, from 1: how many processes have begun to run it.
        config: Its own settings, and the flow's where it has none.
        state: The state; change it in place or assign another, then call `checkpoint`.
    """

    def __init__(
        self,
        id_: str,
        begun: Entry,
        config: ExecutionConfig,
        state: S,
        state_type: JsonType[S],
        *,
        checkpoints: Checkpointer,
        pauses: Pauses,
        time_limit: TimeLimit,
    ) -> None:
        self.id = id_
        self.attempt = begun.attempt
        self.config = config
        self.state: S = state
        self._continues_from = begun.continues_from
        self._take: Callable[[], bytes] = lambda: state_type.dump(self.state)
        self._checkpoints = checkpoints
        self._pauses = pauses
        self._time_limit = time_limit

    @property
    def resumed_from(self) -> str | None:
        """The checkpoint that this attempt continued from, or None at the beginning."""
        return checkpoint_id(self._continues_from) if self._continues_from else None

    def checkpoint(self, *, label: str | None = None) -> str | None:
        """Save the state; it is durable when this returns, unless the durability is another.

        Here a pause takes effect too: if the run has been suspended, cancelled, deleted or taken
        over by another process, this leaves the flow, with the state saved where that is still
        allowed. A state that has not changed costs nothing, unless the label is a new one.

        Args:
            label: What people see in the list of checkpoints: a single line, without control
                characters, of up to 200 characters.

        Returns:
            The checkpoint's id, or that of the one which has this state already; None while it is
            yet to be written, with `durability="async"` or `"exit"`.

        Raises:
            StateError: part of the state can't be kept; the path is named, and nothing was saved.
            StateChanged: it was changed while it was saved; nothing was saved.
            StoreUnavailable: the store did not answer; whether the state was saved is not known.
                With `durability="async"`, it was an earlier one that could not be saved, and is
                tried again; this one was not taken.
            DurationExceeded: the execution is out of time; the state is saved.
            ValueError: the label is empty, too long, or not a single line.
        """
        self._checkpoints.require_open()
        if label is not None:
            require_label(label)
        seq = self._checkpoints.save(self._take, label)
        self._time_limit.require()
        return None if seq is None else checkpoint_id(seq)

    async def acheckpoint(self, *, label: str | None = None) -> str | None:
        """`checkpoint` for async flows: the event loop goes on while the state is saved.

        The state is taken in a thread: do not change it until this returns.
        """
        return await in_thread(partial(self.checkpoint, label=label))

    def publish(self) -> None:
        """Say that the state is consistent as it is now: it may be saved, when it is time.

        It costs no request, in sync and async flows, and is not durable when it returns. The state
        as it was published last is saved every `checkpoint_interval_seconds`, whatever the flow
        does meanwhile, and when the flow ends early: by a failure, SIGTERM, a cancellation, a pause
        or for want of time. A pause takes effect here too, as soon as Prefect has signalled it.

        Raises:
            StateError: part of the state can't be kept; the path is named.
            DurationExceeded: the execution is out of time; the state is saved.
        """
        self._checkpoints.require_open()
        self._checkpoints.publish(self._take())
        self._checkpoints.check_signal()
        self._time_limit.require()

    async def apublish(self) -> None:
        """`publish` for async flows: the event loop goes on while the state is encoded.

        The state is taken in a thread: do not change it until this returns.
        """
        await in_thread(self.publish)

    # ------------------------------------------------------------------ waiting for people

    def pause(
        self,
        reason: str | None = None,
        *,
        until: datetime | timedelta | None = None,
        on_timeout: Literal["resume", "fail", "terminate"] = "resume",
        key: str | None = None,
    ) -> None:
        """Save the state, and pause: the process ends, until somebody resumes the execution.

        The flow then runs again, comes here, and goes on: each pause is one, like a step. Without a
        deployment the process waits here.

        Args:
            reason: What people see.
            until: When it ends by itself: a time with its zone, or from now on. A supervisor sees
                to it, within a minute.
            on_timeout: What becomes of the execution then.
            key: Distinguishes this pause from others of the same reason, in a loop for instance.

        Raises:
            AmbiguousCall: It could be taken for an earlier pause of the same reason, which was made
                with another state; nothing is paused. Give it a key.
            ValueError: `until` has no zone.
            StateError, StoreUnavailable: the state could not be saved; nothing is paused.
        """
        self._checkpoints.require_open()
        self._pauses.pause(self._take, reason, until, OnTimeout(on_timeout), key)

    async def apause(
        self,
        reason: str | None = None,
        *,
        until: datetime | timedelta | None = None,
        on_timeout: Literal["resume", "fail", "terminate"] = "resume",
        key: str | None = None,
    ) -> None:
        """`pause` for async flows."""
        self._checkpoints.require_open()
        policy = OnTimeout(on_timeout)
        pauses = self._pauses
        await in_thread(pauses.pause, self._take, reason, until, policy, key, waits=True)

    def ask(self, model: type[M], *, prompt: str, key: str | None = None) -> M:
        """Ask a person: save the state, and pause until somebody answers.

        The answer is given in the Resume form of the Prefect UI, or by `POST …/resume` with
        `input`. The flow then runs again, comes here, and gets it; it is recorded, so each question
        is asked once. Without a deployment the process waits here.

        Args:
            model: What is asked: its fields are those of the form.
            prompt: What stands above the form; Markdown.
            key: Distinguishes this question from others of the same prompt, in a loop for instance.

        Returns:
            The answer.

        Raises:
            StateError, StoreUnavailable: the state could not be saved, or such an answer could not
                be kept; nothing is asked.
            AmbiguousCall: It could be taken for an earlier question of the same prompt, which was
                asked with another state; nothing is asked. Give it a key, or another prompt.
            ReplayMismatch: the recorded answer does not fit the model any more.
        """
        self._checkpoints.require_open()
        return self._pauses.ask(self._take, model, prompt, key)

    async def aask(self, model: type[M], *, prompt: str, key: str | None = None) -> M:
        """`ask` for async flows."""
        self._checkpoints.require_open()
        return await in_thread(self._pauses.ask, self._take, model, prompt, key, waits=True)
