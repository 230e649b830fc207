"""A graph's values as JSON: plain ones as they are, the others as their serializer writes them.

A list is kept element by element, so that one more message is a small change, and one that people
see when two states are compared. Bytes are text with a character for each byte: what is text in
them can be read, and takes a third less room than in base64 once it is compressed.
"""

from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from prefect_executions import serialization
from prefect_executions.errors import StateError

_Kept = dict[str, Any]  # {"plain": …}, {"items": […]} or {"typed": [type, text]}


def keep(value: Any, serde: SerializerProtocol, what: str) -> _Kept:
    """Encode a value as JSON, which shares nothing with it.

    With a serializer of the user's own, that encrypts for instance, every value goes through it.

    Args:
        value: The value.
        serde: Its serializer.
        what: Its name in errors.

    Raises:
        StateError: the serializer can't keep it.
    """
    if type(serde) is JsonPlusSerializer:
        try:
            return {"plain": serialization.load(serialization.dump(value))}
        except StateError:
            if type(value) is list:
                return {
                    "items": [keep(item, serde, f"{what}[{n}]") for n, item in enumerate(value)]
                }
    try:
        kind, data = serde.dumps_typed(value)
    except Exception as error:
        raise StateError(
            what,
            f"can't be kept: {error}. Keep what LangGraph's serializer knows (messages, pydantic "
            "models, dataclasses, plain values), or give the checkpointer a serde of your own; "
            "JsonPlusSerializer(pickle_fallback=True) pickles the rest.",
        ) from error
    return {"typed": [kind, data.decode("latin-1")]}


def given(kept: _Kept, serde: SerializerProtocol) -> Any:
    """Undo `keep`; what it returns shares nothing with `kept`."""
    match kept:
        case {"plain": value}:
            return serialization.load(serialization.dump(value))
        case {"items": items}:
            return [given(item, serde) for item in items]
        case {"typed": [kind, data]}:
            return serde.loads_typed((kind, data.encode("latin-1")))
    raise ValueError(f"this is no kept value: {list(kept)}")
