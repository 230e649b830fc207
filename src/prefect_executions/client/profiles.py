"""The URL of the service and its key: given, from the environment, or from a profile.

Profiles are in `$XDG_CONFIG_HOME/prefect-executions/config.toml`, by default in `~/.config`:

    [profiles.default]
    url = "https://executions.example.com"
    api_key = "pxk_…"
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

URL = "PREFECT_EXECUTIONS_URL"
KEY = "PREFECT_EXECUTIONS_API_KEY"
PROFILE = "PREFECT_EXECUTIONS_PROFILE"
LOCAL = "http://127.0.0.1:4300"  # where the service listens by default


@dataclass(frozen=True)
class Profile:
    """The URL of the service and its key.

    Args:
        url: The URL.
        api_key: The key, or None for a service without keys.
        url_from: The setting that holds the URL, for people; None for the local default.
        key_from: The setting that holds the key, or None without a key.
    """

    url: str
    api_key: str | None
    url_from: str | None
    key_from: str | None


def file() -> Path:
    """The file of the profiles, which may not exist."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "prefect-executions" / "config.toml"


def find(
    url: str | None = None, api_key: str | None = None, *, profile: str | None = None
) -> Profile:
    """Find URL and key: in the arguments, the environment, a profile, or else the local default.

    A profile's key is only used for the URL of that profile.

    Args:
        url: The service's URL.
        api_key: The key.
        profile: The name of a profile; by default `PREFECT_EXECUTIONS_PROFILE`, or `default`.

    Raises:
        ValueError: there is no such profile, the file is not valid, or URL or key is not.
    """
    named = profile or os.environ.get(PROFILE)
    found = _read(named or "default", required=named is not None)
    theirs = f"of the profile {named or 'default'!r} in {file()}"
    # An argument is stronger than the environment.
    around: Mapping[str, str] = os.environ if profile is None else {}
    url, url_from = _first(
        (url, "the argument `url`"), (around.get(URL), URL), (found.get("url"), f"`url` {theirs}")
    )
    url, their_url = url or LOCAL, found.get("url") or LOCAL
    api_key, key_from = _first(
        (api_key, "the argument `api_key`"),
        (around.get(KEY), KEY),
        (found.get("api_key") if _is_same(url, their_url) else None, f"`api_key` {theirs}"),
    )
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url: {url!r} does not begin with `http://` or `https://`.")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("api_key: holds characters that no key has, such as a line's end.")
    return Profile(url, api_key, url_from, key_from)


def _first(*settings: tuple[str | None, str]) -> tuple[str | None, str | None]:
    """The first value that is given, and the setting that holds it."""
    return next((setting for setting in settings if setting[0]), (None, None))


def _is_same(url: str, other: str) -> bool:
    return url.rstrip("/") == other.rstrip("/")


def _read(name: str, *, required: bool) -> dict[str, str]:
    path = file()
    try:
        profiles = tomllib.loads(path.read_text()).get("profiles", {})
    except FileNotFoundError:
        profiles = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no TOML: {error}") from error
    found = profiles.get(name)
    if found is None and required:
        known = ", ".join(sorted(profiles)) or "none"
        raise ValueError(f"profile: there is no {name!r} in {path}; there are: {known}.")
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{path}: profiles.{name} is no table with `url` and `api_key`.")
    return found or {}
