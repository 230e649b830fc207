"""What people read of the inputs of a call: their beginning, in one line, without secrets."""

import re
from collections.abc import Mapping
from typing import Any

from rich.pretty import traverse

LENGTH = 300  # characters
ITEMS = 3  # of each list, dict and set
TEXT = 80  # characters of each text
DEPTH = 4

HIDDEN = "***"
_LOOKED_AT = 4 * LENGTH  # characters of a value; a class may show itself at any length
_TEXT = r"""b?(?:'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$))(?:\+\d+)?"""
_SECRET = re.compile(
    r"(?P<name>(?:password|passwd|passphrase|secret|token|api[_-]?key|authorization|cookie"
    rf"|credential|private[_-]?key)[\w-]*['\"]?\s*[=:]\s*)(?P<text>{_TEXT})",
    re.IGNORECASE,
)


def called_with(inputs: Mapping[str, Any]) -> str:
    """Show the inputs of a call, such as `city='Oslo', days=3`.

    Large ones are cut. The texts of what is named like a secret are left out, as is what pydantic
    keeps from being shown (`SecretStr`, `repr=False`).

    Args:
        inputs: The inputs by name.
    """
    shown = ", ".join(f"{name}={_shown(value)}" for name, value in inputs.items())
    shown = _SECRET.sub(rf"\g<name>{HIDDEN}", " ".join(shown.splitlines()))
    shown = shown.encode("utf-8", "replace").decode()  # lone surrogates are no text
    return shown if len(shown) <= LENGTH else f"{shown[: LENGTH - 1]}…"


def _shown(value: Any) -> str:
    try:
        shown = f"{traverse(value, max_length=ITEMS, max_string=TEXT, max_depth=DEPTH)}"
        return shown[:_LOOKED_AT]
    except Exception:  # how a class shows itself is its own matter, and not the call's
        return f"<{type(value).__qualname__}>"
