"""A session of the SDK as a part of an execution's state."""

from typing import Any, cast

from agents import TResponseInputItem
from agents.memory import Session, SessionSettings
from agents.memory.session_settings import resolve_session_limit


class Conversation(Session):
    """A session whose items are a list in the state: `Conversation(run.state.messages)`.

    A checkpoint saves it with the rest, as large as what was added; a roll-back takes the
    conversation back, and a process that has lost the execution can't write to it. One run at a
    time has it.

    Args:
        items: The list. It is changed in place.
        session_id: Its name for the SDK.
    """

    def __init__(self, items: list[dict[str, Any]], *, session_id: str = "state") -> None:
        self.session_id = session_id
        self.session_settings: SessionSettings | None = SessionSettings()
        self.items = items

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The newest items, in their order; all of them without a limit."""
        limit = resolve_session_limit(limit, self.session_settings)
        items = self.items if limit is None else self.items[max(len(self.items) - limit, 0) :]
        return cast("list[TResponseInputItem]", [*items])

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items at the end."""
        self.items += cast("list[dict[str, Any]]", items)

    async def pop_item(self) -> TResponseInputItem | None:
        """Take the newest item away; None when there is none."""
        return cast("TResponseInputItem", self.items.pop()) if self.items else None

    async def clear_session(self) -> None:
        """Take all items away."""
        self.items.clear()
