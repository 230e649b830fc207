"""Prefect's server itself: its version, its clock, and how long it keeps events."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient
from pydantic import TypeAdapter

from prefect_executions.prefect.errors import passing, prefect_errors

_SPAN = TypeAdapter(timedelta)
_HALF = timedelta(seconds=0.5)  # the header `Date` has whole seconds


@dataclass(frozen=True)
class Skew:
    """How far the clock of a server is before that of this machine.

    Args:
        ahead: By this much; negative if it is behind.
        margin: The error of the measurement.
    """

    ahead: timedelta
    margin: timedelta

    @classmethod
    def measured(cls, asked: datetime, answered: datetime, date: str | None) -> "Skew | None":
        """The skew by the header `Date` of an answer, or None without one.

        Args:
            asked: When the request was sent, by the clock of this machine.
            answered: When the answer came, by the same clock.
            date: The header.
        """
        try:
            theirs = parsedate_to_datetime(date or "")
        except ValueError:
            return None
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        half = (answered - asked) / 2
        return cls(theirs + _HALF - (asked + half), half + _HALF)


@dataclass(frozen=True)
class PrefectServer:
    """What Prefect's server says of itself.

    Args:
        version: Its version, or None of Prefect Cloud, which has none.
        skew: Its clock; None when it does not say the time.
        event_retention: How long it keeps the events of a type, by the name of the type; under
            None those of all other types. None when it does not say so.
    """

    version: str | None
    skew: Skew | None
    event_retention: Mapping[str | None, timedelta] | None


def read_server(client: SyncPrefectClient) -> PrefectServer:
    """Ask Prefect's server about itself, by two requests.

    Raises:
        PrefectUnavailable: It does not answer, or refuses.
        ValueError: What answers is not Prefect's API.
    """
    is_cloud = client.server_type == ServerType.CLOUD
    with prefect_errors():
        asked = datetime.now(UTC)
        answer = client.request("GET", "/health" if is_cloud else "/admin/version")
        answered = datetime.now(UTC)
        answer.raise_for_status()
    skew = Skew.measured(asked, answered, answer.headers.get("date"))
    if is_cloud:
        return PrefectServer(None, skew, None)
    version = answer.json()  # a page of something else is no JSON
    if not isinstance(version, str):
        raise ValueError(f"/admin/version answers {version!r}")
    return PrefectServer(version, skew, _event_retention(client))


def _event_retention(client: SyncPrefectClient) -> Mapping[str | None, timedelta] | None:
    """How long events are kept, where the server tells its settings."""
    settings: Any = None
    with prefect_errors(), passing(HTTPStatus.NOT_FOUND):
        answer = client.request("GET", "/admin/settings")
        answer.raise_for_status()
        settings = answer.json()
    try:
        server = settings["server"]
        vacuum = server["services"]["db_vacuum"]
        kept: dict[str | None, timedelta] = {
            name: _SPAN.validate_python(span)
            for name, span in vacuum.get("event_retention_overrides", {}).items()
        }
        return {**kept, None: _SPAN.validate_python(server["events"]["retention_period"])}
    except (KeyError, TypeError, ValueError):
        return None
