"""Graphs in executions: their checkpoints, pauses, questions, roll-backs, steps, and crashes."""

from collections import Counter
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from prefect import flow
from pydantic import BaseModel, Field

from graphs import Chat, Listing, chain, chat, say
from prefect_executions import execution, step
from prefect_executions.langgraph import InterruptAnswer, ainvoke, invoke, saver
from prefect_executions.testkit import TestKit
from trials import ended

ran: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _clear() -> None:
    ran.clear()


def labels(trial: Any) -> list[str]:
    return [at.label or "" for at in trial.get().checkpoints]


@flow
@execution
def steps_of(names: str = "abc") -> list[str]:
    graph = chain(Listing, *names, also=lambda n: ran.update([n]), checkpointer=saver())
    items: list[str] = invoke(graph, {"items": []})["items"]
    return items


def test_checkpoints_are_those_of_the_execution(kit: TestKit) -> None:
    trial = ended(kit.start(steps_of))

    assert trial.result == ["a", "b", "c"]
    assert labels(trial)[::-1][:5] == [
        "input",
        "step 0",
        "step 1: a",
        "step 2: b",
        "step 3: c",
    ]


def test_a_crash_at_any_point_runs_no_recorded_node_again(kit: TestKit) -> None:
    """Each node runs once, or once more where its write is lost with the process."""

    def check(trial: Any) -> None:
        assert trial.result == ["a", "b", "c"]
        assert all(count <= 2 for count in ran.values())
        assert sum(ran.values()) <= 4

    survival = kit.crash_everywhere(
        steps_of, before=ran.clear, check=check, compare=lambda trial: {"result": trial.result}
    )

    print(survival)


@step
def model(messages: list[str]) -> str:
    ran[f"model {len(messages)}"] += 1
    return "search" if len(messages) == 1 else "done"


@step
def tool(query: str) -> str:
    ran[f"tool {query}"] += 1
    return f"found {query}"


def agent() -> Any:
    """A model that calls a tool, then says that it is done; its calls are steps."""

    def think(state: Chat) -> dict[str, Any]:
        return {"messages": [AIMessage(model([f"{m.content}" for m in state["messages"]]))]}

    def act(_: Chat) -> dict[str, Any]:
        return {"messages": [AIMessage(tool("it")), AIMessage(tool("that"))]}

    graph = StateGraph(Chat)
    graph.add_node("think", think)
    graph.add_node("act", act)
    graph.add_edge(START, "think")
    graph.add_conditional_edges(
        "think", lambda s: END if s["messages"][-1].content == "done" else "act", ["act", END]
    )
    graph.add_edge("act", "think")
    return graph.compile(checkpointer=saver())


@flow
@execution
def calling() -> list[str]:
    said = [f"{m.content}" for m in invoke(agent(), say("go"))["messages"]]
    return said


@pytest.mark.long
def test_calls_of_models_and_tools_are_never_paid_twice_once_they_are_recorded(
    kit: TestKit,
) -> None:
    def check(trial: Any) -> None:
        assert trial.result == ["go", "search", "found it", "found that", "done"]

    survival = kit.crash_everywhere(
        calling, before=ran.clear, check=check, compare=lambda trial: {"result": trial.result}
    )

    print(survival)


def test_equal_calls_in_two_tasks_are_two(kit: TestKit) -> None:
    @flow
    @execution
    def twice() -> int:
        def node(_: Any) -> dict[str, Any]:
            tool("same")
            return {"items": ["x"]}

        graph = StateGraph(Listing)
        graph.add_node("one", node)
        graph.add_node("two", node)
        graph.add_edge(START, "one")
        graph.add_edge("one", "two")
        invoke(graph.compile(checkpointer=saver()), {"items": []})
        return ran["tool same"]

    assert ended(kit.start(twice)).result == 2


# ---------------------------------------------------------------- pauses and roll-backs


def test_a_pause_takes_effect_at_the_next_superstep(kit: TestKit) -> None:
    with kit.pause_at("step 1: a"):
        trial = kit.start(steps_of)
    assert trial.status == "paused"
    assert dict(ran) == {"a": 1}

    trial.resume()

    assert ended(trial).result == ["a", "b", "c"]
    assert dict(ran) == {"a": 1, "b": 1, "c": 1}


def checkpoint_id(trial: Any, label: str) -> str:
    found: str = next(at.id for at in trial.get().checkpoints if at.label == label)
    return found


def test_a_roll_back_is_time_travel(kit: TestKit) -> None:
    with kit.pause_at("step 2: b"):
        trial = kit.start(steps_of)

    trial.resume(checkpoint_id=checkpoint_id(trial, "step 0"))

    assert ended(trial).result == ["a", "b", "c"]
    assert dict(ran) == {"a": 2, "b": 2, "c": 1}


undone: list[str] = []


@step(undo=undone.append)
def pay(what: str) -> str:
    ran[what] += 1
    return what


def test_a_roll_back_undoes_the_steps_of_nodes(kit: TestKit) -> None:
    undone.clear()

    @flow
    @execution
    def paying() -> list[str]:
        graph = chain(Listing, "rent", "food", "fun", also=pay, checkpointer=saver())
        items: list[str] = invoke(graph, {"items": []})["items"]
        return items

    with kit.pause_at("step 2: food"):
        trial = kit.start(paying)
    trial.resume(checkpoint_id=checkpoint_id(trial, "step 1: rent"))

    assert ended(trial).result == ["rent", "food", "fun"]
    assert undone == ["food"]
    assert dict(ran) == {"rent": 1, "food": 2, "fun": 1}


def test_a_fork_goes_on_beside_it(kit: TestKit) -> None:
    with kit.pause_at("step 1: a"):
        trial = kit.start(steps_of)

    fork = trial.fork()

    assert ended(fork).result == ["a", "b", "c"]
    assert dict(ran) == {"a": 1, "b": 1, "c": 1}


# ---------------------------------------------------------------- questions


class Decision(BaseModel):
    approved: bool
    note: str = ""


def asking(**options: Any) -> Any:
    def node(_: Any) -> dict[str, Any]:
        first = interrupt({"charge": 42})
        second = interrupt("Sure?")
        return {"items": [f"{first} {second}"]}

    graph = StateGraph(Listing)
    graph.add_node("ask", node)
    graph.add_edge(START, "ask")
    return graph.compile(**options)


def form_of(asked: Any) -> type[BaseModel]:
    return Decision if isinstance(asked.value, dict) else InterruptAnswer


@flow
@execution
def questions() -> list[str]:
    items: list[str] = invoke(asking(checkpointer=saver()), {"items": []}, form=form_of)["items"]
    return items


def test_an_interrupt_is_a_question(kit: TestKit) -> None:
    trial = kit.start(questions)
    assert trial.status == "paused"
    assert labels(trial)[0] == "```json"

    trial.resume(input={"approved": True, "note": "fine"})
    assert trial.status == "paused"
    assert labels(trial)[0] == "Sure?"
    trial.resume(input={"answer": "yes"})

    assert ended(trial).result == ["{'approved': True, 'note': 'fine'} yes"]


@pytest.mark.long
def test_questions_survive_crashes_and_are_asked_once(kit: TestKit) -> None:
    kit.crash_everywhere(
        questions,
        answers=[{"approved": False}, {"answer": "no"}],
        compare=lambda trial: {"result": trial.result},
    )


def test_a_breakpoint_of_the_graph_is_a_pause(kit: TestKit) -> None:
    @flow
    @execution
    def stopping() -> list[str]:
        graph = chain(Listing, *"ab", interrupt_before=["b"], checkpointer=saver())
        items: list[str] = invoke(graph, {"items": []})["items"]
        return items

    trial = kit.start(stopping)
    assert (trial.status, labels(trial)[0]) == ("paused", "Before b")
    trial.resume()

    assert ended(trial).result == ["a", "b"]


# ---------------------------------------------------------------- several calls, async, states


@flow
@execution
def turns() -> list[str]:
    run = execution.current()
    graph = chat(checkpointer=saver())
    said: list[str] = []
    for text in ("one", "two", "three"):
        state = invoke(graph, say(text))
        said.append(f"{len(state['messages'])}")
        run.checkpoint(label=text)
    return said


@pytest.mark.long
def test_each_call_of_a_conversation_is_made_once(kit: TestKit) -> None:
    kit.crash_everywhere(
        turns,
        points=10,
        compare=lambda trial: {
            "result": trial.result,
            "messages": len(trial.state["langgraph"][""]["values"]["messages"]["items"]),
        },
    )


@flow
@execution
async def talking() -> list[str]:
    graph = chat(checkpointer=saver())
    await ainvoke(graph, say("one"))
    state = await ainvoke(graph, say("two"))
    return [f"{m.content}" for m in state["messages"]]


def test_async_flows(kit: TestKit) -> None:
    result = ["one", "you said one", "two", "you said two"]
    assert ended(kit.start(talking)).result == result
    with kit.pause_at("step 1: answer"):
        trial = kit.start(talking)
    assert trial.status == "paused"
    trial.resume()
    assert ended(trial).result == result


class Research(BaseModel):
    topic: str = ""
    langgraph: dict[str, Any] = Field(default_factory=dict)


def test_a_state_of_ones_own_has_room_for_the_graph(kit: TestKit) -> None:
    @flow
    @execution(state=Research)
    def research() -> list[str]:
        execution.current(Research).state.topic = "x"
        items: list[str] = invoke(chain(Listing, "a", checkpointer=saver()), {"items": []})["items"]
        return items

    @flow
    @execution(state=Decision, initial=Decision(approved=True))
    def roomless() -> None:
        saver()

    trial = ended(kit.start(research))
    assert (trial.result, trial.state["topic"]) == (["a"], "x")
    assert "`langgraph: dict[str, Any] = {}`" in f"{ended(kit.start(roomless), 'failed').error}"


def test_durability_is_that_of_the_execution(kit: TestKit) -> None:
    @flow
    @execution(durability="async")
    def soon() -> int:
        graph = chain(Listing, *"abcdef", checkpointer=saver())
        invoke(graph, {"items": []})
        config: Any = {"configurable": {"thread_id": execution.current().id}}
        history = list(graph.get_state_history(config))
        return len(history[3].values["items"])

    assert ended(kit.start(soon)).result == 3


def test_another_thread_or_checkpointer_is_refused(kit: TestKit) -> None:
    @flow
    @execution
    def wrong() -> list[str]:
        graph = chain(Listing, "a", checkpointer=saver())
        told = []
        try:
            graph.invoke({"items": []}, {"configurable": {"thread_id": "other"}})
        except ValueError as error:
            told.append(f"{error}")
        try:
            invoke(chain(Listing, "a"), {"items": []})
        except TypeError as error:
            told.append(f"{error}")
        return told

    thread, checkpointer = ended(kit.start(wrong)).result

    assert thread.startswith("thread_id: 'other' is not this execution.")
    assert checkpointer == "checkpointer: compile the graph with `checkpointer=saver()`."
