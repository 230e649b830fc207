"""What an execution asks, and the form in which a person answers it."""

from dataclasses import dataclass
from typing import Any

from prefect_executions.errors import QuestionNotFound
from prefect_executions.executions.executions import Executions
from prefect_executions.models import Question
from prefect_executions.service.inspector.answers import read
from prefect_executions.service.inspector.fields import Field, Posted, field_of


@dataclass(frozen=True)
class Asked:
    """A question, and its form."""

    question: Question
    form: Field

    @property
    def refused(self) -> list[Field]:
        """The fields whose values are refused."""
        return [each for each in self.form.each() if each.error]

    def answer(self) -> Any:
        """The answer that was typed; what is wrong with it is noted at the fields."""
        return read(self.form, self.question.answer_schema)


def asked_by(seen: Executions, execution_id: str, posted: Posted | None = None) -> Asked | None:
    """What an execution asks; None when it asks nothing.

    Args:
        seen: The executions.
        execution_id: The execution.
        posted: What was typed already.
    """
    try:
        question = seen.question(execution_id)
    except QuestionNotFound:
        return None
    more = "".join((posted or {}).get("more", ())[:1])
    return Asked(question, field_of(question.answer_schema, posted, more))
