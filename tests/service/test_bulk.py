"""Bulk actions."""

from contextvars import ContextVar

from prefect_executions.config import Status
from prefect_executions.errors import ExecutionNotFound
from prefect_executions.models import Refusal
from prefect_executions.service.bulk import to_each

where = ContextVar("where", default="nowhere")


def told(error: Exception) -> Refusal:
    return Refusal(code="x", detail=f"{error}")


def test_each_is_done_in_the_context_of_the_caller() -> None:
    """The context has the settings of the Prefect server."""
    seen: list[str] = []

    def act(_: str) -> Status:
        seen.append(where.get())
        return Status.PAUSED

    where.set("here")
    to_each(["a", "b"], act, told)

    assert seen == ["here", "here"]


def test_each_counts_once_and_in_order_and_for_itself() -> None:
    def act(id_: str) -> Status | None:
        if id_ == "b":
            raise ExecutionNotFound(id_)
        return None

    items = to_each(["c", "b", "c", "a"], act, told)

    assert [(item.id, item.ok) for item in items] == [("c", True), ("b", False), ("a", True)]
