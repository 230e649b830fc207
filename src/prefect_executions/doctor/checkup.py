"""All checks, beside each other; none waits for long."""

from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import TypeVar

from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.circuit import Circuit
from prefect_executions.client.profiles import Profile
from prefect_executions.doctor.clocks import CLOCKS, check_clocks
from prefect_executions.doctor.finding import Finding, unknown, wrong
from prefect_executions.doctor.prefect_server import (
    PREFECT,
    check_prefect,
    check_retention,
    configured,
)
from prefect_executions.doctor.service import SERVICE, SUPERVISOR, check_service, check_supervisors
from prefect_executions.doctor.store import STORE, check_store
from prefect_executions.doctor.workers import WORKERS, check_workers
from prefect_executions.errors import ExecutionError, PrefectUnavailable
from prefect_executions.prefect.client import patient_client
from prefect_executions.prefect.server import PrefectServer, Skew
from prefect_executions.settings import ExecutionsSettings

T = TypeVar("T")

PREFECT_SECONDS = 4.0  # for one answer of Prefect
CHECK_SECONDS = 15.0  # for one check, which is a few requests


def examine(profile: Profile) -> list[Finding]:
    """Check all that executions need, from this machine. It leaves nothing but an event in Prefect.

    Args:
        profile: The URL of the service, and the key.
    """
    service = _Check(SERVICE, profile.url, lambda: [check_service(profile)])
    if (finding := configured()) is not None:
        return [finding, *_unchecked("needs Prefect's server."), *service.findings()]
    circuit = Circuit(
        "Prefect", PREFECT_SECONDS, error=PrefectUnavailable, ask=lambda: client.hello()
    )
    try:
        with patient_client(circuit) as client:
            found, server = check_prefect(client)
            if server is None:
                rest = _unchecked("needs Prefect, which can't be reached.")
                return [found, *rest, *service.findings()]
            return [found, *_beyond_prefect(client, server, service)]
    finally:
        circuit.close()


def _unchecked(why: str) -> list[Finding]:
    """The checks that need Prefect, where there is none."""
    return [unknown(each, "Prefect", why) for each in (STORE, WORKERS, SUPERVISOR, CLOCKS)]


def _beyond_prefect(
    client: SyncPrefectClient, server: PrefectServer, service: "_Check"
) -> list[Finding]:
    """The checks that need Prefect."""
    settings = ExecutionsSettings()
    skews: dict[str, Skew | None] = {PREFECT: server.skew}

    def store() -> list[Finding]:
        finding, skew = check_store(client, settings.store)
        if skew is not None:
            skews[STORE] = skew
        return [finding]

    checks = [
        _Check(STORE, f"Execution Store {settings.store!r}", store),
        _Check(WORKERS, PREFECT, lambda: check_workers(client)),
        service,
        _Check(SUPERVISOR, PREFECT, lambda: check_supervisors(client, settings, server.skew)),
    ]
    findings = [finding for check in checks for finding in check.findings()]
    return [*findings, *check_clocks(skews), check_retention(server, settings)]


class _Check:
    """A check that runs beside the others, from now on.

    Args:
        name: What is checked.
        where: Where.
        act: The check.
    """

    def __init__(self, name: str, where: str, act: Callable[[], list[Finding]]) -> None:
        self._name, self._where = name, where
        self._until = monotonic() + CHECK_SECONDS
        self._found: SimpleQueue[list[Finding]] = SimpleQueue()
        # It ends by itself; should it hang, then nobody waits for it.
        Thread(target=copy_context().run, args=(self._run, act), daemon=True).start()

    def _run(self, act: Callable[[], list[Finding]]) -> None:
        try:
            self._found.put(act())
        except ExecutionError as error:
            self._found.put([self._wrong(f"{error}")])
        except Exception as error:
            self._found.put([self._wrong(f"the check failed: {type(error).__name__}: {error}")])

    def findings(self) -> list[Finding]:
        """What it has found; this waits for its end."""
        try:
            return self._found.get(timeout=max(self._until - monotonic(), 0))
        except Empty:
            return [self._wrong(f"no answer came for {CHECK_SECONDS:g} s.")]

    def _wrong(self, what: str) -> Finding:
        return wrong(self._name, self._where, what, "prefect-executions doctor, once more")
