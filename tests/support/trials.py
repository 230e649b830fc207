"""Steps with counted effects, and flows of them that the test kit runs."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from prefect import flow
from pydantic import BaseModel

from prefect_executions import execution, step
from prefect_executions.log.journal import Outcome, Record, decode
from prefect_executions.testkit import TestKit, Trial

acts: Counter[str] = Counter()  # the effects outside the execution
made: list[str] = []  # the same, in their order


def act(what: str) -> str:
    acts[what] += 1
    made.append(what)
    return what.upper()


@step
def plain(n: int) -> str:
    return act(f"plain {n}")


@step
async def later(n: int) -> str:
    return act(f"later {n}")


@step
def join(parts: list[str], end: str = "") -> str:
    return act("join " + " ".join(parts) + end)


@step
def fails(n: int) -> str:
    raise RuntimeError(f"no luck with {n}")


@step(key="order-{order}")
def charge(order: int, at: str = "") -> str:
    return act(f"charge {order}")


class Item(BaseModel):
    name: str
    price: float = 1.5


def journal(kit: TestKit, trial: Trial) -> list[Record]:
    return list(decode(kit.executions.log(trial.id).head().journal).values())


def done(kit: TestKit, trial: Trial) -> list[Record]:
    return [record for record in journal(kit, trial) if record.outcome is Outcome.DONE]


def ended(trial: Trial, status: str = "completed") -> Trial:
    assert trial.status == status, repr(trial.error)
    return trial


def twice(kit: TestKit, body: Callable[[], Any], **config: Any) -> tuple[Any, Any]:
    """Return what a body returns in a first attempt that fails, and in a second one."""
    seen = []

    @flow
    @execution(max_retries=1, **config)
    def repeats() -> None:
        seen.append(body())
        if execution.current().attempt == 1:
            raise RuntimeError("again")

    ended(kit.start(repeats))
    first, second = seen
    return first, second


def once(kit: TestKit, body: Callable[[], Any], **config: Any) -> Trial:
    """Start a flow with this body."""

    @flow
    @execution(**config)
    def runs() -> Any:
        return body()

    return kit.start(runs)
