"""LangGraph graphs that several tests run."""

from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages


class Chat(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Listing(TypedDict):
    items: Annotated[list[str], lambda old, new: old + new]


def extended(items: list[str], writes: list[list[str]]) -> list[str]:
    return items + [item for write in writes for item in write]


class Deltas(TypedDict):
    items: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=3)]


def thread(name: str = "t", **more: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": name, **more}}


def chat(**options: Any) -> Any:
    """A conversation with an echo."""

    def answer(state: Chat) -> dict[str, Any]:
        said = state["messages"][-1].content
        return {"messages": [AIMessage(f"you said {said}")]}

    graph = StateGraph(Chat)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile(**options)


def say(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def chain(state: Any, *nodes: str, also: Any = None, **options: Any) -> Any:
    """Nodes one after another, each of which adds its name to the items.

    Args:
        state: The type of the state.
        nodes: Their names.
        also: Called with the name of each node that runs.
        options: Of `compile`.
    """
    graph = StateGraph(state)

    def node(name: str) -> Any:
        def run(_: Any) -> dict[str, Any]:
            if also is not None:
                also(name)
            return {"items": [name]}

        return run

    for name in nodes:
        graph.add_node(name, node(name))
    for before, after in zip((START, *nodes), (*nodes, END), strict=True):
        graph.add_edge(before, after)
    return graph.compile(**options)
