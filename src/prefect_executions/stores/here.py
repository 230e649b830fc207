"""The directory of this machine that keeps executions where nobody has said where."""

from pathlib import Path
from urllib.parse import urlsplit

from prefect.settings import get_current_settings

from prefect_executions.addresses import is_loopback


def directory_here() -> Path | None:
    """`executions` in Prefect's home, or None where Prefect's server is on another machine.

    The server is on this machine where its address in the settings is a loopback address, or where
    there is none: then Prefect starts a temporary server.
    """
    settings = get_current_settings()
    if settings.api.url and not is_loopback(urlsplit(settings.api.url).hostname or ""):
        return None
    return settings.home / "executions"
