"""The states that are measured: an agent's conversation that grows by a message a turn."""

import random

import orjson

TURNS = 1000
VOCABULARY = 5000


def conversation(turns: int = TURNS, *, seed: int = 1) -> list[dict[str, str]]:
    """Messages of 20 to 200 words; 1,000 of them are about 800 kB as JSON."""
    source = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(source.choices(letters, k=source.randint(2, 10))) for _ in range(VOCABULARY)]
    return [
        {
            "role": ("user", "assistant")[turn % 2],
            "content": " ".join(source.choices(words, k=source.randint(20, 200))),
        }
        for turn in range(turns)
    ]


def states(messages: list[dict[str, str]]) -> list[bytes]:
    """The state after each turn, as JSON."""
    return [
        orjson.dumps({"turn": turn, "messages": messages[:turn]})
        for turn in range(1, len(messages) + 1)
    ]


def of_size(messages: list[dict[str, str]], size: int) -> int:
    """How many turns make a state of about `size` bytes."""
    total = 0
    for turn, message in enumerate(messages):
        total += len(orjson.dumps(message)) + 1
        if total >= size:
            return turn + 1
    return len(messages)
