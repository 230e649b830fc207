"""The flow of the tests of upgrades: one version of the package begins it, another continues it."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from time import sleep
from typing import NoReturn

from prefect import flow
from pydantic import BaseModel

import prefect_executions
from prefect_executions import Run, execution, step


class Receipt(BaseModel):
    item: str
    price: Decimal
    at: datetime


class Order(BaseModel):
    receipts: list[Receipt] = []


class Approval(BaseModel):
    approved: bool


def note(line: str) -> None:
    """Add a line to the execution's file."""
    with (Path(os.environ["UPGRADE_NOTES"]) / execution.current().id).open("a") as file:
        file.write(f"{line}\n")


def refund(receipt: Receipt) -> None:
    """What undoes a payment."""
    note(f"refunded {receipt.item}")


@step(undo=refund)
def pay(item: str) -> Receipt:
    """An effect."""
    note(f"paid {item}")
    return Receipt(item=item, price=Decimal("1.10"), at=datetime.now(UTC))


def be_killed(_run: Run[Order]) -> NoReturn:
    """Wait for it."""
    note("waits")
    while True:
        sleep(0.1)


def fail(_run: Run[Order]) -> NoReturn:
    """Let it be tried again."""
    raise RuntimeError("the till is closed")


def pause(run: Run[Order]) -> None:
    """Wait until somebody resumes it."""
    run.pause("to look at it")


STOPS: dict[str, Callable[[Run[Order]], None]] = {
    "be-killed": be_killed,
    "fail": fail,
    "pause": pause,
}


@flow
@execution(state=Order, max_retries=1)
def order(stop: str) -> Decimal:
    """Pay apples, which is saved, pears, which is only recorded, and after a stop plums.

    Args:
        stop: What it does between pears and plums: `ask`, or in its first attempt one of `STOPS`.
    """
    run = execution.current(Order)
    note(f"attempt {run.attempt} {os.getpid()} {Path(prefect_executions.__file__).parent}")
    if not run.state.receipts:
        run.state.receipts.append(pay("apples"))
        run.checkpoint(label="apples")
    pears = pay("pears")
    if stop == "ask":
        note(f"approved: {run.ask(Approval, prompt='Plums, too?').approved}")
    elif run.attempt == 1:
        STOPS[stop](run)
    run.state.receipts += [pears, pay("plums")]
    run.checkpoint(label="plums")
    return sum((receipt.price for receipt in run.state.receipts), Decimal(0))
