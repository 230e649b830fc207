"""Executions that call executions, with counted effects and failures."""

import asyncio
from collections import Counter
from typing import Any

from prefect import flow
from pydantic import BaseModel

from prefect_executions import execution, step
from prefect_executions.log.journal import Outcome, Record, decode
from prefect_executions.testkit import TestKit, Trial

done: Counter[str] = Counter()  # what has been paid for
failing: Counter[str] = Counter()  # how often what has this name still fails
ids: list[str] = []  # the executions that have begun, in this order


def clear() -> None:
    done.clear()
    failing.clear()
    ids.clear()


def fail(what: str) -> None:
    if failing[what]:
        failing[what] -= 1
        raise RuntimeError(what)


@step
def pay(what: str) -> str:
    done[what] += 1
    return f"paid {what}"


@flow
@execution
def child(name: str) -> list[str]:
    ids.append(execution.current().id)
    first = pay(f"{name} 1")
    fail(name)
    return [first, pay(f"{name} 2")]


@flow
@execution
async def later(name: str) -> list[str]:
    ids.append(execution.current().id)
    first = pay(f"{name} 1")
    await asyncio.sleep(0)
    fail(name)
    return [first, pay(f"{name} 2")]


@flow
@execution
def parent() -> list[str]:
    found = [pay("before"), *child("a"), *child("b")]
    execution.current().state["found"] = found
    execution.current().checkpoint(label="children")
    fail("end")
    return [*found, pay("after")]


PAID = Counter({"before": 1, "a 1": 1, "a 2": 1, "b 1": 1, "b 2": 1, "after": 1})


def records(kit: TestKit, trial: Trial) -> list[Record]:
    return list(decode(kit.executions.log(trial.id).head().journal).values())


def children(kit: TestKit, trial: Trial) -> dict[str, Outcome]:
    """The children that a parent knows, with what is recorded of them."""
    return {r.child: r.outcome for r in records(kit, trial) if r.child is not None}


class Approval(BaseModel):
    approved: bool


@flow
@execution
def asks(name: str) -> str:
    ids.append(execution.current().id)
    pay(f"{name} 1")
    answer = execution.current().ask(Approval, prompt=f"Pay {name}?")
    return pay(f"{name} 2") if answer.approved else "no"


@flow
@execution
def pauses(name: str) -> str:
    ids.append(execution.current().id)
    pay(f"{name} 1")
    execution.current().pause(f"Look at {name}")
    return pay(f"{name} 2")


def of_one(inner: Any) -> Any:
    @flow(name=f"of {inner.name}")
    @execution
    def calls() -> str:
        pay("before")
        found: str = inner("x")
        return pay(f"after {found}")

    return calls


PAUSED = {"before": 1, "x 1": 1, "x 2": 1, "after paid x 2": 1}
