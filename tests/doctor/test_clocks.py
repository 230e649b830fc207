"""Whose clock is wrong."""

from datetime import UTC, datetime, timedelta

import pytest

from prefect_executions.doctor.clocks import check_clocks
from prefect_executions.doctor.finding import Grade
from prefect_executions.prefect.server import Skew

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
HALF = timedelta(seconds=0.5)


def by(seconds: float) -> Skew:
    return Skew(timedelta(seconds=seconds), HALF)


@pytest.mark.parametrize(
    ("date", "ahead"),
    [("Tue, 24 Nov 2026 10:00:01 GMT", 0.5), ("Tue, 24 Nov 2026 11:00:01 GMT", 3600.5)],
)
def test_a_clock_is_read_in_the_middle_of_a_request(date: str, ahead: float) -> None:
    skew = Skew.measured(NOW, NOW + timedelta(seconds=2), date)

    assert skew == Skew(timedelta(seconds=ahead), timedelta(seconds=1.5))


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_what_does_not_say_the_time_has_no_skew(date: str | None) -> None:
    assert Skew.measured(NOW, NOW, date) is None


def test_clocks_that_agree_are_right() -> None:
    (finding,) = check_clocks({"Prefect": by(-4), "store": by(5.4)})

    assert finding.grade is Grade.RIGHT
    assert finding.where == "Prefect, store"


def test_a_clock_that_is_off_is_wrong_and_the_others_are_right() -> None:
    right, wrong = check_clocks({"Prefect": by(0), "store": by(-60)})

    assert (right.grade, right.where) == (Grade.RIGHT, "Prefect")
    assert (wrong.grade, wrong.where) == (Grade.WRONG, "store")
    assert "60 s behind that of this machine" in wrong.what
    assert wrong.mend == "sudo timedatectl set-ntp true, on this machine or that of store"


def test_where_all_others_agree_it_is_this_machine() -> None:
    findings = check_clocks({"Prefect": by(60), "store": by(61)})

    assert {finding.mend for finding in findings} == {
        "sudo timedatectl set-ntp true, on this machine"
    }


def test_a_clock_that_is_not_read_is_unknown() -> None:
    unknown, right = check_clocks({"Prefect": None, "store": by(0)})

    assert (unknown.grade, unknown.where) == (Grade.UNKNOWN, "Prefect")
    assert (right.grade, right.where) == (Grade.RIGHT, "store")
