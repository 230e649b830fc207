"""What saving a state, and calling a step, cost the caller, against encoding alone."""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter

from benchmarks.measure import Result, alternating
from benchmarks.workload import conversation
from prefect_executions.serialization import JsonType, digest
from prefect_executions.steps.identity import canonical

ROUNDS = 41
SIZES = (100_000, 1_000_000, 10_000_000)
INPUTS = 1_100_000


class Message(BaseModel):
    """A message of an agent's conversation."""

    role: str
    content: str


class Conversation(BaseModel):
    """An agent's state with a type."""

    messages: list[Message] = []


class Row(BaseModel):
    """What has many small parts."""

    id: int
    name: str
    score: float
    is_new: bool
    note: str | None


def callers(_: Path) -> Iterator[Result]:
    """All benchmarks of what the caller pays."""
    for size in SIZES:
        messages = of_size(conversation(), size)
        typed = Conversation.model_validate({"messages": messages})
        yield dump_vs_dump_json("a model", Conversation, typed, goal=1.3)
        yield dump_vs_dump_json("a dict", dict[str, Any], {"messages": messages}, goal=1.3)
    rows = [Row(id=n, name=f"row {n}", score=n / 7, is_new=True, note=None) for n in range(14_000)]
    yield dump_vs_dump_json("small parts", list[Row], rows, goal=1.3)
    for name, inputs in (("messages", conversation()), ("short messages", short_messages())):
        yield identity_vs_dumps(name, of_size(inputs, INPUTS))


def of_size(messages: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """Messages that are so many bytes as JSON, more or less: new objects, though some are equal."""
    each = len(orjson.dumps(messages)) / len(messages)
    return [{**message} for message in islice(cycle(messages), round(size / each))]


def short_messages() -> list[dict[str, Any]]:
    """Messages of some 200 bytes, every third with the call of a tool."""
    long = conversation()
    return [
        {
            "role": ("user", "assistant", "tool")[n % 3],
            "content": message["content"][:200],
            **({"tool_calls": [tool_call(n, message["content"])]} if n % 3 == 1 else {}),
        }
        for n, message in enumerate(long)
    ]


def tool_call(n: int, text: str) -> dict[str, Any]:
    """The call of a tool, as it stands in a message."""
    function = {"name": "search", "arguments": {"query": text[-30:], "limit": 10}}
    return {"id": f"call_{n}", "type": "function", "function": function}


def dump_vs_dump_json(name: str, type_: Any, value: Any, goal: float) -> Result:
    """What `checkpoint` and `publish` do with a state, against pydantic's own encoding of it."""
    kept, plain = JsonType[Any](type_), TypeAdapter[Any](type_)
    size = len(kept.dump(value))
    ours, theirs = alternating(lambda _: kept.dump(value), lambda _: plain.dump_json(value), ROUNDS)
    title = f"dump {name} of {size / 1e6:.1f} MB"
    return Result(title, ours, "s", "pydantic's dump_json", ours / theirs, goal)


def identity_vs_dumps(name: str, messages: list[dict[str, Any]]) -> Result:
    """What a step does with its inputs, against pydantic's encoding of them."""
    plain = TypeAdapter[Any](list[dict[str, Any]])
    size = len(orjson.dumps(messages))

    def identify(_: int) -> str:
        return digest("step", "answer", canonical({"messages": messages}, at="answer"))

    ours, theirs = alternating(identify, lambda _: plain.dump_json(messages), ROUNDS)
    title = f"identity of {name} of {size / 1e6:.1f} MB"
    return Result(title, ours, "s", "pydantic's dump_json", ours / theirs, goal=10)
