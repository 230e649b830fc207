"""Which call of an agent's run is which, and how it is recorded.

An attempt makes the run again, from its beginning, and each call gives what is recorded of it. A
call of a tool is known by its run and the id that the model gave it; a call of a model by its run
and its number. An agent that is used as a tool counts for itself, as the call of that tool.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from prefect_executions.errors import ExecutionError
from prefect_executions.responses import Responses
from prefect_executions.steps.named import arecord

T = TypeVar("T")

_current: ContextVar["Turns | None"] = ContextVar("turns", default=None)


class PassedOn(BaseException):
    """An error of this package, out of which the SDK must make no text for the model.

    Args:
        error: The error.
    """

    def __init__(self, error: ExecutionError) -> None:
        super().__init__(error)
        self.error = error


class Turns:
    """The turns of a run of an agent, or of one that is used as a tool in it.

    Args:
        id_: Distinguishes the calls from all others in the execution.
        agent: The name of the agent whose turn it is.

    Attributes:
        agent: The same; a handoff changes it.
    """

    def __init__(self, id_: str, agent: str) -> None:
        self.agent = agent
        self._id = id_
        self._responses = 0
        self._inside: dict[str, Turns] = {}

    @staticmethod
    def current() -> "Turns | None":
        """The turns that this code is in."""
        return _current.get()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let the calls that the body makes be of these turns."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def of_tool(self, agent: str, call_id: str) -> "Turns":
        """The turns of an agent that is used as a tool; they go on where it is called again."""
        return self._inside.setdefault(call_id, Turns(self.key("inside", call_id), agent))

    def key(self, what: str, call_id: str) -> str:
        """What identifies something that is done for a tool's call."""
        return f"{self._id} {what} {call_id}"

    async def model(self, call: Callable[[], Awaitable[T]], responses: Responses[T]) -> T:
        """Call a model, or return its recorded response.

        A call that fails has no number, so that the SDK's retries do not change those of others.

        Raises:
            StateError: The response can't be kept, which is recorded.
        """
        step, key = f"{self.agent}: model", f"{self._id} model {self._responses + 1}"

        async def kept() -> Any:
            return responses.plain(await call(), f"the result of {step}")

        response = responses.load(await arecord(step, kept, key=key))
        self._responses += 1
        return response

    async def tool(
        self,
        name: str,
        call_id: str,
        call: Callable[[], Awaitable[Any]],
        returns: Any,
        *,
        shown: dict[str, Any],
    ) -> Any:
        """Call a tool, or return its recorded result; people see `shown` as its inputs.

        Raises:
            PassedOn: An error of this package.
        """
        step = f"{self.agent}: tool {name}"
        try:
            key = self.key("tool", call_id)
            return await arecord(step, call, key=key, shown=shown, returns=returns)
        except ExecutionError as error:
            raise PassedOn(error) from error
