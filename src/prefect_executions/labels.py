"""The labels of checkpoints, in flows and over REST: a line without control characters."""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

LABEL_LENGTH = 200

# A label is a cell of a table, a field of a log line, an option of a form.
_BREAKS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_BREAK = re.compile(rf"[{_BREAKS}\ud800-\udfff]")  # no text in UTF-8 has the last ones


def _one_line(label: str) -> str:
    if not 1 <= len(label) <= LABEL_LENGTH:
        raise ValueError(f"has {len(label)} characters; give 1 to {LABEL_LENGTH}.")
    if wrong := _BREAK.search(label):
        where = f"has {wrong[0]!r} as character {wrong.start() + 1}"
        raise ValueError(f"{where}; give a single line, without control characters.")
    return label


Label = Annotated[
    str,
    AfterValidator(_one_line),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": LABEL_LENGTH,
            "pattern": f"^[^{_BREAKS}]*$",
        }
    ),
]


def require_label(label: str) -> None:
    """Check a checkpoint's label: the rule of `Label`, for flows.

    Raises:
        ValueError: it is empty, longer than `LABEL_LENGTH`, or not a single line without control
            characters.
    """
    try:
        _one_line(label)
    except ValueError as wrong:
        raise ValueError(f"label: {wrong}") from None


def label_of(text: str) -> str | None:
    """The first line of a text as a label; None when nothing is left of it."""
    lines = text.splitlines()
    return _BREAK.sub(" ", lines[0]).strip()[:LABEL_LENGTH] or None if lines else None
