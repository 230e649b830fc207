"""Commands that are run in this process."""

import json
from collections.abc import Callable
from typing import Any

Ran = tuple[int, str, str]
Run = Callable[..., Ran]


def json_of(run: Run, *command: str) -> Any:
    """The JSON that a command prints."""
    code, out, err = run(*command, "--json")
    assert (code, err) == (0, ""), (out, err)
    return json.loads(out)


def words(run: Run, *command: str) -> str:
    """The text that a command prints."""
    code, out, err = run(*command)
    assert (code, err) == (0, ""), (out, err)
    return out
