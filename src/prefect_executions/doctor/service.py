"""Whether a service answers and lets us in, and a supervisor lives."""

from datetime import UTC, datetime, timedelta
from time import monotonic, sleep

import httpx
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.client import Client, ServiceError, Unauthorized
from prefect_executions.client.profiles import LOCAL, Profile
from prefect_executions.doctor.finding import Finding, note, right, wrong
from prefect_executions.prefect.events import Heartbeats, send_doctor_asked, was_doctor_heard
from prefect_executions.prefect.server import Skew
from prefect_executions.settings import ExecutionsSettings

SERVICE = "service"
SUPERVISOR = "supervisor"
_EVENTS = "events"
_SERVE = "prefect-executions serve"
_SECONDS = 4.0  # for one answer
_EVENT_SECONDS = 9.0  # until Prefect keeps an event: it writes them in batches
_LOOK_SECONDS = 0.5


def check_service(profile: Profile) -> Finding:
    """Whether the service at a URL answers, has all that it needs, and takes the key."""
    where = profile.url
    try:
        answer = httpx.get(f"{where.rstrip('/')}/health", timeout=_SECONDS, follow_redirects=True)
        answer.raise_for_status()
        away = answer.json()["away"]
    except httpx.TransportError as error:
        what = f"no service answers: {type(error).__name__} {error}"
        return _absent(where, what)
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        return wrong(SERVICE, where, f"what answers there is not the service: {error!r}", _URL)
    if away:
        mend = "prefect-executions doctor, on the machine of the service"
        return wrong(SERVICE, where, f"it answers, and does not reach: {', '.join(away)}.", mend)
    try:
        with Client(where, profile.api_key, patience=0, timeout=_SECONDS) as client:
            next(client.list(), None)
    except Unauthorized as error:
        return wrong(SERVICE, where, f"{error}", _KEY)
    except ServiceError as error:
        return wrong(SERVICE, where, f"it refuses to list executions: {error}", _KEY)
    return right(SERVICE, where, "it answers, and lets us in.")


_URL = "export PREFECT_EXECUTIONS_URL=… to the address of your service"
_KEY = (
    "prefect-executions keys create NAME --permission read --permission write, and "
    "export PREFECT_EXECUTIONS_API_KEY=…"
)


def _absent(where: str, what: str) -> Finding:
    if where == LOCAL:
        return wrong(SERVICE, where, what, f"{_SERVE}; or, if it runs elsewhere: {_URL}")
    return wrong(SERVICE, where, what, _URL)


def check_supervisors(
    client: SyncPrefectClient, settings: ExecutionsSettings, skew: Skew | None
) -> list[Finding]:
    """Whether a supervisor of our store lives, by the heartbeats that Prefect has kept.

    Where there are none, an event shows whether Prefect keeps any.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    ahead = timedelta() if skew is None else skew.ahead
    since = datetime.now(UTC) + ahead - timedelta(seconds=settings.silence_seconds)
    alive = Heartbeats.since(client, since).supervisors
    stores = [id_.rpartition(".")[0] for id_ in alive]
    where = f"Execution Store {settings.store!r}"
    if ours := stores.count(settings.store):
        what = f"{ours} alive, by heartbeats of the last {settings.silence_seconds:g} s."
        return [right(SUPERVISOR, where, what)]
    others = ", ".join(sorted({repr(store) for store in stores}))
    what = "none is alive, so nobody goes on with what has crashed"
    if others:
        mend = f"PREFECT_INTEGRATIONS_EXECUTIONS_STORE={settings.store} {_SERVE}"
        return [wrong(SUPERVISOR, where, f"{what}; there are some for {others}.", mend)]
    return [wrong(SUPERVISOR, where, f"{what}.", _SERVE), *check_events(client)]


def check_events(client: SyncPrefectClient) -> list[Finding]:
    """Whether Prefect keeps an event that is sent now; heartbeats are events."""
    sent = send_doctor_asked()
    until = monotonic() + _EVENT_SECONDS
    while monotonic() < until:
        if was_doctor_heard(client, sent):
            return [right(_EVENTS, "Prefect", "an event sent from here has arrived.")]
        sleep(_LOOK_SECONDS)
    what = (
        f"an event sent from here has not arrived within {_EVENT_SECONDS:g} s: does a proxy before "
        "Prefect let WebSockets through? Heartbeats are events."
    )
    return [note(_EVENTS, "Prefect", what, "prefect events stream, to see which arrive")]
