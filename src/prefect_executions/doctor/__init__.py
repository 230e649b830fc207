"""Checks of an installation: Prefect, the store, workers, the service, clocks."""

from prefect_executions.doctor.checkup import examine
from prefect_executions.doctor.finding import Finding, Grade

__all__ = ["Finding", "Grade", "examine"]
