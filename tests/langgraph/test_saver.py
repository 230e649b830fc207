"""The checkpointer under real graphs: sync and async, branches, subgraphs, delta channels."""

import asyncio
import subprocess
import sys
from secrets import token_bytes
from threading import Barrier
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from graphs import Deltas, Listing, chain, chat, say, thread
from prefect_executions.errors import StateError, StoreUnavailable
from prefect_executions.langgraph import DirectorySaver, Saver
from prefect_executions.storage.objects import MemoryObjects
from stores import Counting, Fault, Faulty


@pytest.fixture
def counting(memory: MemoryObjects) -> Counting:
    return Counting(memory)


@pytest.fixture
def saver(counting: Counting) -> Saver:
    return Saver(counting)


def again(saver: Saver) -> Saver:
    """The same store in another process."""
    return Saver(saver._threads.objects)


def texts(state: dict[str, Any]) -> list[str]:
    return [message.content for message in state["messages"]]


# ---------------------------------------------------------------- conversations


def test_a_conversation_goes_on_in_another_process(saver: Saver) -> None:
    chat(checkpointer=saver).invoke(say("one"), thread())

    state = chat(checkpointer=again(saver)).invoke(say("two"), thread())

    assert texts(state) == ["one", "you said one", "two", "you said two"]


def test_async_graphs(saver: Saver) -> None:
    async def talk() -> dict[str, Any]:
        graph = chat(checkpointer=saver)
        await graph.ainvoke(say("one"), thread())
        history = [at async for at in graph.aget_state_history(thread())]
        assert [at.metadata["step"] for at in history] == [1, 0, -1]
        state: dict[str, Any] = await graph.ainvoke(say("two"), thread())
        return state

    assert texts(asyncio.run(talk())) == ["one", "you said one", "two", "you said two"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_every_durability_of_a_graph(saver: Saver, durability: Any) -> None:
    graph = chain(Listing, "a", "b", "c", checkpointer=saver)

    graph.invoke({"items": []}, thread(), durability=durability)

    newest = chain(Listing, "a", "b", "c", checkpointer=again(saver)).get_state(thread())
    assert newest.values == {"items": ["a", "b", "c"]}
    assert newest.next == ()


def test_history_is_that_of_the_reference_checkpointer(saver: Saver) -> None:
    def history(checkpointer: Any) -> list[Any]:
        graph = chain(Listing, "a", "b", checkpointer=checkpointer)
        graph.invoke({"items": ["-"]}, thread())
        graph.update_state(thread(), {"items": ["by hand"]}, as_node="a")
        graph.invoke(None, thread())
        return [
            (at.values, at.next, at.metadata, [(task.name, task.result) for task in at.tasks])
            for at in graph.get_state_history(thread())
        ]

    assert history(saver) == history(InMemorySaver())


def test_going_back_branches_in_the_thread(saver: Saver) -> None:
    graph = chain(Listing, "a", "b", checkpointer=saver)
    graph.invoke({"items": []}, thread())
    before_b = next(at for at in graph.get_state_history(thread()) if at.next == ("b",))

    graph.update_state(before_b.config, {"items": ["other"]})
    graph.invoke(None, thread())

    assert graph.get_state(thread()).values == {"items": ["a", "other", "b"]}
    old = graph.get_state(before_b.config)
    assert old.values == {"items": ["a"]}
    assert old.tasks[0].result == {"items": ["b"]}  # what came of it at first
    assert len(list(graph.get_state_history(thread()))) == 6


# ---------------------------------------------------------------- interrupts, subgraphs, parallels


def test_an_interrupt_is_answered_in_another_process(saver: Saver) -> None:
    def compiled(checkpointer: Saver) -> Any:
        graph = StateGraph(Listing)
        graph.add_node("ask", lambda _: {"items": [interrupt("go on?"), interrupt("sure?")]})
        graph.add_edge(START, "ask")
        return graph.compile(checkpointer=checkpointer)

    first = compiled(saver).invoke({"items": []}, thread())
    assert [asked.value for asked in first["__interrupt__"]] == ["go on?"]
    second = compiled(again(saver)).invoke(Command(resume="yes"), thread())
    assert [asked.value for asked in second["__interrupt__"]] == ["sure?"]

    state = compiled(again(saver)).invoke(Command(resume="very"), thread())

    assert state == {"items": ["yes", "very"]}


def outer_of(inner: Any, checkpointer: Saver, *, rounds: int = 1) -> Any:
    """A graph that runs another one as a node, in rounds."""
    graph = StateGraph(Listing)
    graph.add_node("inner", inner)
    graph.add_edge(START, "inner")
    graph.add_conditional_edges(
        "inner", lambda state: END if len(state["items"]) > 2 ** (rounds - 1) else "inner"
    )
    return graph.compile(checkpointer=checkpointer)


def test_a_subgraph_goes_on_where_it_was_interrupted(saver: Saver) -> None:
    ran: list[str] = []
    inner = StateGraph(Listing)
    inner.add_node("first", lambda _: ran.append("first") or {"items": ["first"]})
    inner.add_node("second", lambda _: {"items": [interrupt("?")]})
    inner.add_edge(START, "first")
    inner.add_edge("first", "second")
    graph = outer_of(inner.compile(), saver)
    graph.invoke({"items": []}, thread())
    [task] = graph.get_state(thread(), subgraphs=True).tasks
    assert task.state.values == {"items": ["first"]}

    state = outer_of(inner.compile(), again(saver)).invoke(Command(resume="second"), thread())

    assert state == {"items": ["first", "second"]}
    assert ran == ["first"]


def test_a_state_does_not_grow_by_the_subgraphs_that_have_ended(saver: Saver) -> None:
    inner = chain(Listing, "x", "y")
    graph = outer_of(inner, saver, rounds=6)
    graph.invoke({"items": ["-"]}, thread())

    held = saver._threads.open("t")

    assert held is not None
    assert len(held.index.saved) > 4
    assert list(held.slots) == [""]


def test_parallel_tasks_whose_sibling_fails_are_not_run_again(saver: Saver) -> None:
    ran: list[str] = []
    is_broken, both = True, Barrier(2)

    def good(_: Any) -> dict[str, Any]:
        ran.append("good")
        both.wait()
        return {"items": ["good"]}

    def bad(_: Any) -> dict[str, Any]:
        if is_broken:
            both.wait()
            raise RuntimeError("broken")
        return {"items": ["bad"]}

    graph = StateGraph(Listing)
    graph.add_node("good", good)
    graph.add_node("bad", bad)
    graph.add_edge(START, "good")
    graph.add_edge(START, "bad")
    with pytest.raises(RuntimeError, match="broken"):
        graph.compile(checkpointer=saver).invoke({"items": []}, thread())
    is_broken = False

    state = graph.compile(checkpointer=again(saver)).invoke(None, thread())

    assert sorted(state["items"]) == ["bad", "good"]
    assert ran == ["good"]


def test_tasks_made_by_send(saver: Saver) -> None:
    graph = StateGraph(Listing)
    graph.add_node("each", lambda one: {"items": [f"did {one}"]})
    graph.add_conditional_edges(START, lambda _: [Send("each", n) for n in range(5)], ["each"])

    state = graph.compile(checkpointer=saver).invoke({"items": []}, thread())

    assert state["items"] == [f"did {n}" for n in range(5)]
    assert graph.compile(checkpointer=again(saver)).get_state(thread()).values == state


# ---------------------------------------------------------------- delta channels


def test_delta_channels_are_made_from_their_writes(saver: Saver, counting: Counting) -> None:
    names = "abcdefgh"
    graph = chain(Deltas, *names, checkpointer=saver)
    graph.invoke({"items": ["-"]}, thread())

    other = chain(Deltas, *names, checkpointer=again(saver))

    assert other.get_state(thread()).values == {"items": ["-", *names]}
    for number, at in enumerate(other.get_state_history(thread())):
        assert at.values.get("items", []) == ["-", *names][: max(9 - number, 0)]
    counting.forget()
    other.get_state(thread())
    assert len(counting.rounds) <= 1  # the values of the snapshot


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_delta_channels_survive_pruning(saver: Saver, durability: Any) -> None:
    graph = chain(Deltas, *"abcdefgh", checkpointer=saver)
    for _ in range(3):
        graph.invoke({"items": ["-"]}, thread(), durability=durability)
    before = graph.get_state(thread()).values

    again(saver).prune(["t"])

    assert graph.get_state(thread()).values == before == {"items": [*"-abcdefgh"] * 3}
    assert len(list(graph.get_state_history(thread()))) < 10
    graph.invoke({"items": ["+"]}, thread())
    assert graph.get_state(thread()).values["items"][-9:] == [*"+abcdefgh"]


# ---------------------------------------------------------------- the protocol's corners


def put(saver: Saver, parent: dict[str, Any], **values: Any) -> dict[str, Any]:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = values
    config: Any = {"configurable": {"checkpoint_ns": "", **parent["configurable"]}}
    made: Any = saver.put(config, checkpoint, {"source": "loop", "step": 1}, {})
    return made


def test_writes_may_come_before_their_checkpoint(saver: Saver) -> None:
    put(saver, thread(), n=0)
    checkpoint = empty_checkpoint()
    config: Any = thread(checkpoint_ns="", checkpoint_id=checkpoint["id"])
    saver.put_writes(config, [("n", 1)], "task")
    saver.put(thread(checkpoint_ns=""), checkpoint, {}, {})  # type: ignore[arg-type]

    found = again(saver).get_tuple(config)

    assert found is not None
    assert found.pending_writes == [("task", "n", 1)]


def test_of_writes_the_first_stays_and_of_special_ones_the_last(saver: Saver) -> None:
    config: Any = put(saver, thread(), n=0)
    saver.put_writes(config, [("n", 1), ("__resume__", "a")], "task", "path")
    saver.put_writes(config, [("n", 2), ("__resume__", "b")], "task", "path")
    saver.put_writes(config, [("n", 3)], "earlier", "a path before")

    found = again(saver).get_tuple(config)

    assert found is not None
    assert found.pending_writes == [
        ("earlier", "n", 3),
        ("task", "__resume__", "b"),
        ("task", "n", 1),
    ]


def test_an_id_that_exists_is_replaced(saver: Saver) -> None:
    config: Any = put(saver, thread(), n=0)
    found: Any = saver.get_tuple(config)
    saver.put(thread(checkpoint_ns=""), found.checkpoint | {"channel_values": {"n": 9}}, {}, {})  # type: ignore[arg-type]

    [only] = again(saver).list(thread())  # type: ignore[arg-type]

    assert only.checkpoint["channel_values"] == {"n": 9}


def test_a_copy_with_an_allowlist_shares_the_threads(saver: Saver) -> None:
    saver.serde = JsonPlusSerializer(allowed_msgpack_modules=[("graphs", "Chat")])
    config: Any = put(saver, thread(), n=0)

    other = saver.with_allowlist([("graphs", "Listing")])
    put(other, config, n=1)  # type: ignore[arg-type]

    assert other is not saver
    assert len(list(saver.list(thread()))) == 2  # type: ignore[arg-type]


class Sealing:
    """A cipher as LangGraph wants it, whose text is another one each time."""

    def __init__(self) -> None:
        self._cipher = AESGCM(bytes(32))

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        nonce = token_bytes(12)
        return "aes-gcm", nonce + self._cipher.encrypt(nonce, plaintext, None)

    def decrypt(self, _: str, ciphertext: bytes) -> bytes:
        return self._cipher.decrypt(ciphertext[:12], ciphertext[12:], None)


def test_encrypted_values_are_not_to_be_read(memory: MemoryObjects) -> None:
    serde = EncryptedSerializer(Sealing())
    graph = chat(checkpointer=Saver(memory, serde=serde))
    graph.invoke(say("top secret"), thread())
    state = graph.invoke(say("more"), thread())

    assert texts(state)[0] == "top secret"
    thread_of = Saver(memory)._threads.open("t")
    assert thread_of is not None
    readable = f"{thread_of.slots} {thread_of.index}"
    assert "secret" not in readable
    assert "plain" not in readable


def test_a_value_that_cannot_be_kept_is_refused_by_its_channel(saver: Saver) -> None:
    graph = StateGraph(Listing)
    graph.add_node("bad", lambda _: {"items": ["fine", object()]})
    graph.add_edge(START, "bad")

    with pytest.raises(StateError, match=r"^items\[1\]: can't be kept"):
        graph.compile(checkpointer=saver).invoke({"items": []}, thread())

    pickling = Saver(MemoryObjects(), serde=JsonPlusSerializer(pickle_fallback=True))
    state = graph.compile(checkpointer=pickling).invoke({"items": []}, thread())
    assert state["items"][0] == "fine"


def test_values_come_back_as_the_serializer_gives_them(saver: Saver) -> None:
    values = {"nothing": None, "bytes": b"\0", "mixed": [1, {2}, {"a": {3}}, [0.5]]}
    config: Any = put(saver, thread(), **values)

    found: Any = again(saver).get_tuple(config)

    assert found.checkpoint["channel_values"] == values


# ---------------------------------------------------------------- requests, faults, threads


def test_a_superstep_is_one_put(saver: Saver, counting: Counting) -> None:
    names = [f"node{n}" for n in range(20)]
    graph = chain(Listing, *names, checkpointer=saver)
    graph.invoke({"items": []}, thread())
    counting.forget()

    graph.invoke({"items": []}, thread(), durability="sync")

    assert counting.scans == 1
    assert counting.rounds == []
    # 22 checkpoints; the writes of one node may come late on a busy machine.
    assert 22 <= len(counting.created) <= 25


def test_a_thread_that_is_deleted_can_begin_anew(saver: Saver, memory: MemoryObjects) -> None:
    graph = chat(checkpointer=saver)
    graph.invoke(say("one"), thread())
    other = again(saver)
    assert other.get_tuple(thread()) is not None  # type: ignore[arg-type]

    saver.delete_thread("t")

    assert list(memory.scan("")) == []
    assert other.get_tuple(thread()) is None  # type: ignore[arg-type]
    assert texts(chat(checkpointer=other).invoke(say("two"), thread())) == ["two", "you said two"]
    assert texts(graph.get_state(thread()).values) == ["two", "you said two"]


def test_a_put_whose_answer_is_lost_is_there(memory: MemoryObjects) -> None:
    faulty = Faulty(memory)
    saver = Saver(faulty)
    config: Any = put(saver, thread(), n=0)
    faulty.faults = [Fault.ANSWER_LOST]
    with pytest.raises(StoreUnavailable):
        put(saver, config, n=1)

    found = saver.get_tuple(thread())  # type: ignore[arg-type]

    assert found is not None
    assert found.checkpoint["channel_values"] == {"n": 1}
    put(saver, found.config, n=2)  # type: ignore[arg-type]
    assert len(list(again(saver).list(thread()))) == 3  # type: ignore[arg-type]


def test_all_threads_are_listed(saver: Saver) -> None:
    for name in ("a", "b", "ü/../x"):
        put(saver, thread(name), n=1)

    found = {at.config["configurable"]["thread_id"] for at in again(saver).list(None)}

    assert found == {"a", "b", "ü/../x"}


def test_a_checkpointer_needs_no_prefect(tmp_path: Any) -> None:
    program = """
import sys
from graphs import chat, say, thread
from prefect_executions.langgraph import DirectorySaver
chat(checkpointer=DirectorySaver(sys.argv[1])).invoke(say("hello"), thread())
assert not [name for name in sys.modules if name.partition(".")[0] == "prefect"]
"""
    path = [*sys.path]
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{program}", str(tmp_path)],
        check=True,
    )

    assert texts(chat(checkpointer=DirectorySaver(tmp_path)).get_state(thread()).values) == [
        "hello",
        "you said hello",
    ]
