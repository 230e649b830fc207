"""LangGraph checkpointers side by side: a conversation of 1,000 turns in each.

Each turn is one call of a graph with one node, so three checkpoints: the input, the beginning, and
the end. Ours, and those of `langgraph-checkpoint-sqlite` and `langgraph-checkpoint-postgres`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from benchmarks.measure import Requests, Result, delay
from benchmarks.workload import TURNS, conversation
from prefect_executions.langgraph import Saver
from prefect_executions.local import free_ports
from prefect_executions.local.stack import S3Server
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.storage.s3 import S3Objects

SUPERSTEPS = 3  # checkpoints of a turn
TIMED = 20  # turns
LOADS = 20
THREAD: Any = {"configurable": {"thread_id": "conversation"}}
_MESSAGES = [message["content"] for message in conversation(TURNS)]


class Plain(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def _extended(messages: list[AnyMessage], writes: list[list[AnyMessage]]) -> list[AnyMessage]:
    return messages + [message for write in writes for message in write]


class Deltas(TypedDict):
    messages: Annotated[list[AnyMessage], DeltaChannel(_extended, snapshot_frequency=1000)]


def agents(data: Path) -> Iterator[Result]:
    """All benchmarks of checkpointers."""
    data.mkdir(parents=True, exist_ok=True)
    ours = MemoryObjects()
    talk(Saver(ours))
    size = ours.measure("")[1]
    with SqliteSaver.from_conn_string(f"{data}/deltas.db") as deltas:
        talk(deltas, Deltas)
    yield stored(size, "SQLite, DeltaChannel", size_of(data / "deltas.db"), 1)
    with SqliteSaver.from_conn_string(f"{data}/plain.db") as sqlite:
        talk(sqlite)
        yield stored(size, "SQLite", size_of(data / "plain.db"), 1 / 50)
        with postgres(data / "postgres") as url, PostgresSaver.from_conn_string(url) as server:
            server.setup()
            talk(server)
            (found,) = server.conn.execute(_SIZE).fetchall()
            yield stored(size, "PostgreSQL", found["bytes"], 1 / 50)
            yield from with_s3(data, sqlite, server)


_SIZE = (
    "SELECT sum(pg_total_relation_size(relid))::bigint AS bytes FROM pg_stat_user_tables "
    "WHERE relname LIKE 'checkpoint%'"
)


def stored(ours: int, baseline: str, theirs: int, goal: float) -> Result:
    """The bytes that the whole conversation takes."""
    name = f"LangGraph: bytes stored, {TURNS} turns"
    return Result(name, ours, "bytes", baseline, ours / theirs, goal)


def with_s3(data: Path, sqlite: Any, server: Any) -> Iterator[Result]:
    """Requests, and times, on a real S3 server, after the same conversation."""
    s3 = S3Server(data / "s3")
    s3.start()
    try:
        objects = s3.objects(prefix="agents")
        talk(Saver(objects))
        yield requests(objects)
        others = {"SQLite": sqlite, "PostgreSQL": server}
        near = seconds_of_superstep(Saver(objects))
        for name, other in others.items():
            theirs = seconds_of_superstep(other)
            what = f"LangGraph: superstep, {TURNS} turns"
            yield Result(what, near * 1000, "ms", name, near / theirs)
        far = s3.objects(prefix="agents")
        delay(far, 0.015)
        value = seconds_of_superstep(Saver(far)) * 1000
        yield Result(f"LangGraph: superstep, {TURNS} turns, 15 ms a request", value, "ms")
        load = seconds_of_load(lambda: Saver(objects))
        for name, other in others.items():
            theirs = seconds_of_load(lambda other=other: other)
            what = f"LangGraph: load the newest, {TURNS} turns"
            yield Result(what, load * 1000, "ms", name, load / theirs)
    finally:
        s3.stop()


def graph_of(checkpointer: Any, state: Any = Plain) -> Any:
    """A conversation: the node answers with the next message."""
    graph = StateGraph(state)
    graph.add_node("answer", lambda so_far: {"messages": [answer_to(so_far["messages"])]})
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile(checkpointer=checkpointer)


def answer_to(messages: list[Any]) -> AIMessage:
    """The message after these."""
    at = len(messages) % TURNS
    return AIMessage(_MESSAGES[at], id=f"answer {len(messages)}")


def say(at: int) -> dict[str, Any]:
    """What the person says as message number `at`."""
    return {"messages": [HumanMessage(_MESSAGES[at % TURNS], id=f"question {at}")]}


def talk(checkpointer: Any, state: Any = Plain) -> None:
    """The whole conversation: as many messages as there are turns."""
    graph = graph_of(checkpointer, state)
    for at in range(0, TURNS, 2):
        graph.invoke(say(at), THREAD)


def requests(objects: S3Objects) -> Result:
    """PUTs for each checkpoint, over some turns."""
    graph = graph_of(Saver(objects))
    graph.get_state(THREAD)
    counted = Requests(objects)
    before = len(list(graph.get_state_history(THREAD, limit=1000)))
    sent: list[str] = []
    for at in range(TIMED):
        sent += counted.during(lambda at=at: graph.invoke(say(TURNS + 2 * at), THREAD))
    assert before
    puts = sent.count("PutObject") / (SUPERSTEPS * TIMED)
    return Result("LangGraph: PUTs for each checkpoint", puts, "requests", goal=1.1)


def seconds_of_superstep(checkpointer: Any) -> float:
    """The median time of a turn over its supersteps, at the end of the conversation."""
    graph, times = graph_of(checkpointer), []
    for at in range(TIMED):
        start = perf_counter()
        graph.invoke(say(2 * TURNS + 2 * at), THREAD, durability="sync")
        times.append((perf_counter() - start) / SUPERSTEPS)
    return median(times)


def seconds_of_load(checkpointer: Any) -> float:
    """The median time to read the newest checkpoint in a new process."""
    times = []
    for _ in range(LOADS):
        saver = checkpointer()
        start = perf_counter()
        saver.get_tuple(THREAD)
        times.append(perf_counter() - start)
    return median(times)


def size_of(database: Path) -> int:
    """The bytes of an SQLite database, with its log."""
    return sum(file.stat().st_size for file in database.parent.glob(f"{database.name}*"))


@contextmanager
def postgres(data: Path) -> Iterator[str]:
    """A PostgreSQL server; as root it runs as the user `postgres`, who must have access."""
    data = Path("/tmp") / f"benchmark-{os.getpid()}-postgres"
    data.mkdir()
    user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(data, "postgres", "postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    places = [f"{path}" for path in Path("/usr/lib/postgresql").glob("*/bin")]
    path = os.pathsep.join([os.environ["PATH"], *places])
    initdb, program = shutil.which("initdb", path=path), shutil.which("postgres", path=path)
    if initdb is None or program is None:
        raise RuntimeError("no PostgreSQL here: `apt-get install postgresql`")
    port = free_ports(1)
    subprocess.run([*user, initdb, "-D", f"{data}/db", "-U", "bench", "-A", "trust"], check=True)
    server = subprocess.Popen(
        [*user, program, "-D", f"{data}/db", "-p", f"{port}", "-k", f"{data}", "-h", "127.0.0.1"]
    )
    try:
        url = f"postgresql://bench@127.0.0.1:{port}/postgres"
        ready = [*user, "pg_isready", "-h", "127.0.0.1", "-p", f"{port}"]
        while subprocess.run(ready, check=False, env={"PATH": path}).returncode:
            if server.poll() is not None:
                raise RuntimeError("PostgreSQL has ended")
        yield url
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(data)
