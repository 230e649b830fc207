"""The pauses and questions of a flow: each is recorded once, like a step."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel

from prefect_executions import serialization
from prefect_executions.config import OnTimeout
from prefect_executions.errors import ReplayMismatch, StateError
from prefect_executions.labels import label_of
from prefect_executions.log.journal import PAUSE, Outcome, Record
from prefect_executions.prefect.pauses import Form, pause_key, question_key, read_answer
from prefect_executions.prefect.suspension import pause_ended
from prefect_executions.runtime.checkpoints import Checkpointer
from prefect_executions.runtime.ownership import Ownership
from prefect_executions.runtime.waiting import Waiting
from prefect_executions.serialization import JsonType
from prefect_executions.steps.in_flight import InFlight
from prefect_executions.steps.places import QUESTION
from prefect_executions.steps.replay import Call, Replay

M = TypeVar("M", bound=BaseModel)

SETTLE_PATIENCE = 60.0  # seconds that a pause or an end waits for steps that are carried out


class Pauses:
    """The pauses and questions that a flow makes itself.

    Args:
        replay: The calls of the attempt.
        ownership: The ownership of the flow run, which knows what became of its pauses.
        waiting: Pauses the flow run.
        checkpoints: Saves the state and the records.
        in_flight: The steps that are being carried out.
        resume_form: Makes the form of a pause that asks nothing else.
    """

    def __init__(
        self,
        replay: Replay,
        ownership: Ownership,
        waiting: Waiting,
        checkpoints: Checkpointer,
        in_flight: InFlight,
        resume_form: Callable[[], Form],
    ) -> None:
        self._replay = replay
        self._ownership = ownership
        self._waiting = waiting
        self._checkpoints = checkpoints
        self._in_flight = in_flight
        self._resume_form = resume_form

    def pause(
        self,
        take: Callable[[], bytes],
        reason: str | None,
        until: datetime | timedelta | None,
        on_timeout: OnTimeout,
        key: str | None = None,
    ) -> None:
        """See `Run.pause`; `take` encodes the state."""
        ends = datetime.now(UTC) + until if isinstance(until, timedelta) else until
        if ends is not None and ends.tzinfo is None:
            raise ValueError(f"until: {ends} has no time zone; give it one, or a timedelta.")
        call = self._begin(take, PAUSE, key, reason or "")
        with self._replay.running(call) as known:
            if known is not None and known.outcome is Outcome.DONE:
                self._replay.given(call)
                return
            paused = known.pause_key if known is not None else None
            own = self._ownership
            if paused is None or not pause_ended(own.client, own.run.id, paused)[0]:
                paused = pause_key(ends, on_timeout)
                self._wait(take, call, paused, reason, self._resume_form)
            self._end(call, paused)

    def ask(
        self, take: Callable[[], bytes], model: type[M], prompt: str, key: str | None = None
    ) -> M:
        """See `Run.ask`; `take` encodes the state."""
        kept: JsonType[M] = JsonType(model, what="input")
        kept.require_kept()  # before anybody is asked
        name = f"ask {model.__name__}"
        call = self._begin(take, name, key, prompt)
        with self._replay.running(call) as known:
            if known is not None and known.outcome is Outcome.DONE:
                self._replay.given(call)
                return _recorded(known, kept)
            paused = known.pause_key if known is not None else None
            problem = None
            while True:
                if paused is not None:
                    answer, problem = self._answer(paused, kept)
                    if answer is not None:
                        break
                paused, form = question_key(), _form(model, prompt, problem)
                self._wait(take, call, paused, prompt, lambda form=form: form)  # type: ignore[misc]
            result = kept.dump(answer)
            self._end(call, paused, result)
        return answer

    def _begin(self, take: Callable[[], bytes], step: str, key: str | None, text: str) -> Call:
        """Identify a pause or a question: by its key, or by its text and the state that it saves.

        Raises:
            AmbiguousCall: It could be taken for an equal one, made under another state.
        """
        if key is not None:
            return self._replay.begin(step, serialization.digest(f"{step} key", key), is_keyed=True)
        key = serialization.digest(step, text)
        return self._replay.begin(step, key, state=take(), way_out=QUESTION)

    def _wait(
        self,
        take: Callable[[], bytes],
        call: Call,
        key: str,
        reason: str | None,
        form: Callable[[], Form],
    ) -> None:
        """Pause. The record comes first, so that no answer is without its question.

        It is saved with a checkpoint, so that a roll-back to that one continues after the pause.
        """
        if self._ownership.can_leave:  # another process may go on at once
            self._in_flight.settle(SETTLE_PATIENCE, call=call)
        label = label_of(reason or "") or "Paused"
        self._checkpoints.save_with(
            take, label, lambda: self._replay.ended(call, Outcome.WAITING, pause_key=key)
        )
        with self._checkpoints.leaving():
            self._waiting.pause(key, reason, form())

    def _end(self, call: Call, key: str, result: bytes | None = None) -> None:
        """Record that the pause has ended, with the answer."""
        self._checkpoints.record(
            lambda: self._replay.ended(call, Outcome.DONE, pause_key=key, result=result)
        )
        self._replay.given(call)

    def _answer(self, key: str, kept: JsonType[M]) -> tuple[M | None, str | None]:
        """The answer given in a pause; or None, and the problem with it if there was one."""
        own = self._ownership
        was_paused, was_resumed = pause_ended(own.client, own.run.id, key)
        given = read_answer(own.client, own.run.id, key) if was_paused else None
        if given is None and not was_resumed:
            return None, None
        try:
            return kept.load(serialization.dump({} if given is None else given)), None
        except StateError as error:
            return None, None if given is None else f"{error}"


def _form(model: type[BaseModel], prompt: str, problem: str | None) -> Form:
    asked = [prompt]
    if problem is not None:
        asked.append(f"**The last answer could not be used.** {problem}")
    return Form(model.model_json_schema(), "\n\n".join(asked))


def _recorded(record: Record, kept: JsonType[M]) -> M:
    try:
        return kept.load(record.result or b"null")
    except StateError as error:
        raise ReplayMismatch(
            record.step,
            f"the recorded answer does not fit any more. {error} Ask for a model of another name, "
            "or roll back to before the question.",
        ) from error
