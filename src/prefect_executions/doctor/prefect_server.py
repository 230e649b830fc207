"""Whether Prefect can be reached, in which version, and how long it keeps heartbeats."""

from datetime import timedelta
from http import HTTPStatus
from importlib.metadata import requires
from urllib.parse import urlsplit

import httpx
import prefect
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import get_current_settings

from prefect_executions.addresses import is_loopback
from prefect_executions.doctor.finding import Finding, note, right, unknown, wrong
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.prefect.errors import may_pass
from prefect_executions.prefect.events import HEARTBEAT
from prefect_executions.prefect.server import PrefectServer, read_server
from prefect_executions.settings import ExecutionsSettings

PREFECT = "Prefect"
_RETENTION = "events"
_LOCAL = "http://127.0.0.1:4200/api"
_LONGEST = timedelta(days=1)  # heartbeats that are kept for longer fill the database
_OVERRIDE = (
    "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES="
    f"""'{{"{HEARTBEAT}": 3600}}' prefect server start"""
)


def configured() -> Finding | None:
    """What is wrong with the address of Prefect's server in the settings, or None."""
    url = get_current_settings().api.url
    if not url:
        return wrong(
            PREFECT,
            "PREFECT_API_URL",
            "no server is set, so each process starts one of its own: no worker and no supervisor "
            "looks after executions.",
            f"prefect server start, and in another terminal: "
            f"prefect config set PREFECT_API_URL={_LOCAL}",
        )
    return None


def check_prefect(client: SyncPrefectClient) -> tuple[Finding, PrefectServer | None]:
    """Whether Prefect can be reached, and server and client are as new as they have to be."""
    where = f"{client.api_url}".rstrip("/")
    try:
        server = read_server(client)
    except ValueError:
        mend = f"prefect config set PREFECT_API_URL={_with_api(where)}"
        return wrong(PREFECT, where, "what answers there is not Prefect's API.", mend), None
    except PrefectUnavailable as error:
        return _not_reached(where, error), None
    needed = supported()
    versions = f"server {server.version or 'Prefect Cloud'}, client {prefect.__version__}"
    if not needed.contains(prefect.__version__, prereleases=True):
        mend = f"pip install 'prefect{needed}'"
        return wrong(PREFECT, where, f"{versions}: the client has to be {needed}.", mend), server
    if server.version and not needed.contains(server.version, prereleases=True):
        mend = f"pip install 'prefect{needed}', where the server runs, and start it again"
        return wrong(PREFECT, where, f"{versions}: the server has to be {needed}.", mend), server
    return right(PREFECT, where, f"{versions}; supported are {needed}."), server


def check_retention(server: PrefectServer, settings: ExecutionsSettings) -> Finding:
    """How long heartbeats stay in Prefect's database."""
    if server.event_retention is None:
        return unknown(_RETENTION, HEARTBEAT, "the server does not say how long it keeps events.")
    of_all = server.event_retention[None]
    kept = min(server.event_retention.get(HEARTBEAT, of_all), of_all)
    if kept < timedelta(seconds=10 * settings.silence_seconds):
        what = f"heartbeats are removed after {kept}, before silence can be told from death."
        return wrong(_RETENTION, HEARTBEAT, what, _OVERRIDE)
    if kept > _LONGEST:
        what = (
            f"heartbeats, one every {settings.heartbeat_seconds:g} s for each running execution, "
            f"stay in Prefect's database for {kept}; an hour is enough."
        )
        return note(_RETENTION, HEARTBEAT, what, _OVERRIDE)
    return right(_RETENTION, HEARTBEAT, f"heartbeats are kept for {kept}, others for {of_all}.")


def _not_reached(where: str, error: PrefectUnavailable) -> Finding:
    cause = error.__cause__
    status = cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else None
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return wrong(
            PREFECT,
            where,
            f"the server refuses the credentials: {error.problem}",
            "prefect config set PREFECT_API_AUTH_STRING=USER:PASSWORD, or for Prefect Cloud: "
            "prefect cloud login",
        )
    if not may_pass(error):
        mend = f"prefect config set PREFECT_API_URL={_with_api(where)}"
        return wrong(PREFECT, where, f"this is not Prefect's API: {error.problem}", mend)
    mend = "prefect config set PREFECT_API_URL=… to the address of your server"
    if is_loopback(urlsplit(where).hostname or ""):
        mend = f"prefect server start --port {urlsplit(where).port or 80}"
    return wrong(PREFECT, where, f"nothing answers: {error.problem}", mend)


def _with_api(url: str) -> str:
    """The address of the API of a server whose pages are at `url`."""
    return url if url.endswith("/api") else f"{url}/api"


def supported() -> SpecifierSet:
    """The versions of Prefect that this package was made for, as it says itself."""
    named = (Requirement(each) for each in requires("prefect-executions") or ())
    return next(each.specifier for each in named if each.name == "prefect")
