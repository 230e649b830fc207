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
