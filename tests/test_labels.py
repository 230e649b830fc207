"""Labels: one rule in flows, over REST and in the OpenAPI document."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from prefect_executions.labels import Label, label_of, require_label

LABELS: TypeAdapter[str] = TypeAdapter(Label)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=210)


def is_label(text: str) -> bool:
    """Whether flows take a text as a label; over REST the same is asked of `Label`."""
    try:
        require_label(text)
    except ValueError:
        return False
    return True


@given(ANY_TEXT)
@example("")
@example("x" * 200)
@example("x" * 201)
@example("two\u2028lines")
@example("\ud800")
def test_a_label_is_one_line_in_flows_and_over_rest(text: str) -> None:
    takes = is_label(text)

    assert takes == (
        1 <= len(text) <= 200
        and text.splitlines() == [text]
        and not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)
    )
    try:
        LABELS.validate_python(text)
    except ValidationError:
        assert not takes
    else:
        assert takes
    assert not takes or re.fullmatch(LABELS.json_schema()["pattern"], text)


@pytest.mark.parametrize("wrong", ["\0", "a\nb", "a\r", "\t", "\x1b[31m", "\x85", "\u2028"])
def test_the_document_refuses_the_characters_that_the_service_refuses(wrong: str) -> None:
    assert not re.fullmatch(LABELS.json_schema()["pattern"], wrong)
    with pytest.raises(ValueError, match=r"label: has '.*' as character \d; give a single line"):
        require_label(wrong)


@given(ANY_TEXT)
@example("why\nand how")
@example("\n")
@example("a\0b")
@example("x" * 199 + "\t\t")
def test_a_label_can_be_made_of_any_text(text: str) -> None:
    label = label_of(text)

    assert label is None or is_label(label)
    if is_label(text) and text == text.strip():
        assert label == text
