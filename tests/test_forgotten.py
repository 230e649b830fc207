"""What people read about the steps that a roll-back forgets."""

from dataclasses import dataclass

import pytest

from prefect_executions.forgotten import NAMED, counted, warning


@dataclass(frozen=True)
class Done:
    step: str
    undo: bool = False


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([Done("fetch")], "fetch will not be undone"),
        ([Done("charge", undo=True)], "charge will be undone"),
        (
            [Done("fetch"), Done("parse")] * 29,
            "29 × fetch, 29 × parse will not be undone",
        ),
        (
            [Done("fetch"), Done("charge", undo=True), Done("fetch"), Done("charge", undo=True)],
            "2 × charge will be undone; 2 × fetch will not be undone",
        ),
        (  # whether it can be undone, a step may decide by each call
            [Done("charge"), Done("charge", undo=True)],
            "charge will be undone; charge will not be undone",
        ),
        ([Done("fetch")] * 1234, "1,234 × fetch will not be undone"),
    ],
)
def test_equal_steps_are_counted_and_those_to_be_undone_come_first(
    steps: list[Done], said: str
) -> None:
    assert counted(steps) == said


def test_of_many_different_steps_the_newest_are_named() -> None:
    steps = [Done(f"step {n}") for n in range(NAMED + 3) for _ in range(2)]

    said = counted(steps)

    named = ", ".join(f"2 × step {n}" for n in range(NAMED))
    assert said == f"{named}, 6 calls of 3 more steps will not be undone"


def test_one_more_step_than_are_named_is_said_as_such() -> None:
    said = counted([Done(f"step {n}") for n in range(NAMED + 1)])

    assert said.endswith(f"step {NAMED - 1}, 1 call of 1 more step will not be undone")


def test_the_warning_names_the_checkpoint() -> None:
    said = warning("ckpt_000003", [Done("charge", undo=True)])

    assert said == "The steps after ckpt_000003 have happened: charge will be undone."
