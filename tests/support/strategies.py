"""Values for tests: strategies for hypothesis, and values that are refused."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


def examples(count: int) -> int:
    """So many examples, or in `make test` a quarter of them."""
    return count * settings.default.max_examples // 100


def nested(depth: int) -> Any:
    """A value in so many lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> Any:
    """A value that contains itself."""
    value: list[Any] = []
    value.append(value)
    return {"loop": value}
