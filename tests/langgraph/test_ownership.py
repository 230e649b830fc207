"""Of two workers on one thread only the one that claimed it last can write.

The clauses are those of the proposal for LangGraph's suite (`write_ownership`).
"""

import asyncio
from threading import Thread
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from graphs import Listing, chain, thread
from prefect_executions.errors import Superseded
from prefect_executions.langgraph import Saver
from prefect_executions.storage.objects import MemoryObjects


@pytest.fixture
def saver(memory: MemoryObjects) -> Saver:
    return Saver(memory)


def other(saver: Saver) -> Saver:
    """A checkpointer of another process."""
    return Saver(saver._threads.objects)


def put(writer: Saver, name: str = "t", **values: Any) -> Any:
    checkpoint = empty_checkpoint() | {"channel_values": values}
    config: Any = thread(name, checkpoint_ns="")
    return writer.put(config, checkpoint, {"source": "loop", "step": 1}, {})  # type: ignore[arg-type]


def write(writer: Saver, config: Any, task: str = "task") -> None:
    writer.put_writes(config, [("n", 1)], task)


def count(saver: Saver, name: str = "t") -> tuple[int, int]:
    """How many checkpoints a thread has, and how many pending writes."""
    found = list(other(saver).list(thread(name)))  # type: ignore[arg-type]
    return len(found), sum(len(at.pending_writes or ()) for at in found)


def is_stale(raised: pytest.ExceptionInfo[BaseException]) -> bool:
    return getattr(raised.value, "is_stale_write_owner_error", False) is True


def test_a_claim_gives_a_writer(saver: Saver) -> None:
    writer = asyncio.run(saver.aclaim_write_ownership("t"))

    config = asyncio.run(
        writer.aput(thread(checkpoint_ns=""), empty_checkpoint(), {}, {})  # type: ignore[arg-type]
    )
    asyncio.run(writer.aput_writes(config, [("n", 1)], "task"))

    assert count(saver) == (1, 1)


def test_the_owner_is_current(saver: Saver) -> None:
    writer = saver.claim_write_ownership("t")
    put(writer)

    writer.check_write_ownership()
    asyncio.run(writer.acheck_write_ownership())


def test_a_stale_put_stores_nothing_and_is_told(saver: Saver) -> None:
    stale = saver.claim_write_ownership("t")
    put(stale, n=1)
    other(saver).claim_write_ownership("t")

    with pytest.raises(Superseded) as raised:
        put(stale, n=2)

    assert is_stale(raised)
    assert count(saver) == (1, 0)


def test_a_stale_write_stores_nothing_and_is_told(saver: Saver) -> None:
    stale = saver.claim_write_ownership("t")
    config = put(stale)
    other(saver).claim_write_ownership("t")

    with pytest.raises(Superseded) as raised:
        write(stale, config)

    assert is_stale(raised)
    assert count(saver) == (1, 0)


def test_a_stale_writer_is_told_when_it_asks(saver: Saver) -> None:
    stale = saver.claim_write_ownership("t")
    put(stale)
    other(saver).claim_write_ownership("t")

    with pytest.raises(Superseded) as raised:
        asyncio.run(stale.acheck_write_ownership())

    assert is_stale(raised)


def test_the_new_owner_writes(saver: Saver) -> None:
    put(saver.claim_write_ownership("t"))

    owner = other(saver).claim_write_ownership("t")
    write(owner, put(owner))

    assert count(saver) == (2, 1)


def test_a_claim_is_not_for_one_write(saver: Saver) -> None:
    owner = saver.claim_write_ownership("t")

    for n in range(5):
        write(owner, put(owner, n=n))

    assert count(saver) == (5, 5)


def test_a_claim_is_for_one_thread(saver: Saver) -> None:
    mine = saver.claim_write_ownership("mine")
    other(saver).claim_write_ownership("yours")

    put(mine, "mine")

    assert count(saver, "mine") == (1, 0)


def test_a_superseded_writer_stays_so(saver: Saver) -> None:
    stale = saver.claim_write_ownership("t")
    owner = other(saver).claim_write_ownership("t")

    for n in range(3):
        with pytest.raises(Superseded):
            put(stale, n=n)
        put(owner, n=n)
        assert stale.get_tuple(thread()) is not None  # type: ignore[arg-type]

    assert count(saver) == (3, 0)


def test_a_superseded_writer_stays_so_when_the_owner_is_superseded(saver: Saver) -> None:
    first = saver.claim_write_ownership("t")
    second = other(saver).claim_write_ownership("t")
    third = other(saver).claim_write_ownership("t")

    for stale in (first, second):
        with pytest.raises(Superseded):
            put(stale)
    put(third)

    assert count(saver) == (1, 0)


def test_who_was_superseded_may_claim_again(saver: Saver) -> None:
    first = saver.claim_write_ownership("t")
    second = other(saver).claim_write_ownership("t")

    again = first.claim_write_ownership("t")
    put(again)

    with pytest.raises(Superseded):
        put(second)
    with pytest.raises(Superseded):
        put(first)
    assert count(saver) == (1, 0)


def test_what_the_owner_repeats_is_no_refusal(saver: Saver) -> None:
    owner = saver.claim_write_ownership("t")
    checkpoint = empty_checkpoint()
    config: Any = thread(checkpoint_ns="")

    for _ in range(2):
        made = owner.put(config, checkpoint, {}, {})
        write(owner, made)

    assert count(saver) == (1, 1)


def test_who_reads_is_never_refused(saver: Saver) -> None:
    stale = saver.claim_write_ownership("t")
    put(stale, n=1)
    owner = other(saver).claim_write_ownership("t")
    put(owner, n=2)

    found = stale.get_tuple(thread())  # type: ignore[arg-type]

    assert found is not None
    assert found.checkpoint["channel_values"] == {"n": 2}


def test_a_thread_that_nobody_has_written_can_be_claimed(saver: Saver) -> None:
    owner = saver.claim_write_ownership("t")

    assert owner.get_tuple(thread()) is None  # type: ignore[arg-type]
    other(saver).claim_write_ownership("t")
    with pytest.raises(Superseded):
        put(owner)


def test_of_many_claims_at_once_one_writer_is_left(saver: Saver) -> None:
    owners: list[Saver] = []
    claims = [
        Thread(target=lambda: owners.append(other(saver).claim_write_ownership("t")))
        for _ in range(6)
    ]
    for claim in claims:
        claim.start()
    for claim in claims:
        claim.join()

    wrote = []
    for owner in owners:
        try:
            put(owner)
        except Superseded:
            continue
        wrote.append(owner)

    assert len(owners) == 6
    assert len(wrote) == 1
    assert count(saver) == (1, 0)


def test_a_graph_that_is_overtaken_stores_nothing_more(saver: Saver) -> None:
    """Even one whose worker has not claimed the thread: it began before the claim."""
    ran: list[str] = []

    def work() -> None:
        owner = other(saver).claim_write_ownership("t")
        chain(Listing, "x", checkpointer=owner).invoke({"items": []}, thread())

    def overtake(name: str) -> None:
        ran.append(name)
        if name == "b":
            worker = Thread(target=work)  # what a node invokes would be a subgraph of its own
            worker.start()
            worker.join()

    graph = chain(Listing, "a", "b", "c", "d", also=overtake, checkpointer=saver)
    with pytest.raises(Superseded) as raised:
        graph.invoke({"items": []}, thread(), durability="sync")

    assert is_stale(raised)
    assert ran == ["a", "b"]
    state = chain(Listing, "x", checkpointer=other(saver)).get_state(thread())
    assert state.values == {"items": ["a", "x"]}
