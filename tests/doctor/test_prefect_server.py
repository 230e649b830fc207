"""How long Prefect keeps heartbeats, and which versions are supported."""

from collections.abc import Mapping
from datetime import timedelta

import prefect
import pytest

from prefect_executions.doctor.finding import Grade
from prefect_executions.doctor.prefect_server import check_retention, supported
from prefect_executions.prefect.events import HEARTBEAT
from prefect_executions.prefect.server import PrefectServer
from prefect_executions.settings import ExecutionsSettings

WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("kept", "grade"),
    [
        ({None: WEEK}, Grade.NOTE),
        ({None: WEEK, HEARTBEAT: timedelta(hours=1)}, Grade.RIGHT),
        ({None: timedelta(minutes=1), HEARTBEAT: timedelta(hours=1)}, Grade.WRONG),
        ({None: WEEK, HEARTBEAT: timedelta(seconds=30)}, Grade.WRONG),
        (None, Grade.UNKNOWN),
    ],
)
def test_heartbeats_are_kept_for_neither_too_short_nor_too_long(
    kept: Mapping[str | None, timedelta] | None, grade: Grade
) -> None:
    finding = check_retention(PrefectServer("3.9.1", None, kept), ExecutionsSettings())

    assert finding.grade is grade
    assert bool(finding.mend) is (grade in (Grade.NOTE, Grade.WRONG))


def test_the_supported_versions_are_those_of_the_package() -> None:
    assert supported().contains(prefect.__version__)
    assert supported().contains("3.8.4")
    assert not supported().contains("3.8.3")
