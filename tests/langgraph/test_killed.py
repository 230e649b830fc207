"""A process that is killed by SIGKILL, for real: what it had stored is not run again."""

import subprocess
import sys
from pathlib import Path

import pytest

from graphs import Listing, chain, thread
from prefect_executions.langgraph import DirectorySaver

PROGRAM = """
import sys
from pathlib import Path
from time import sleep
from graphs import Listing, chain, thread
from prefect_executions.langgraph import DirectorySaver

data = Path(sys.argv[1])

def ran(name):
    with (data / "ran.txt").open("a") as file:
        file.write(name + "\\n")
    if name == "c":
        print("in c", flush=True)
        sleep(600)

graph = chain(Listing, *"abcd", also=ran, checkpointer=DirectorySaver(data / "threads"))
graph.invoke({"items": []}, thread(), durability="sync")
"""


@pytest.mark.journey
def test_a_killed_graph_goes_on_after_what_it_has_stored(tmp_path: Path) -> None:
    program = f"import sys; sys.path[:] = {[*sys.path]!r}\n{PROGRAM}"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in c\n"
        process.kill()
    ran = (tmp_path / "ran.txt").read_text().split()

    graph = chain(
        Listing, *"abcd", also=ran.append, checkpointer=DirectorySaver(tmp_path / "threads")
    )
    state = graph.invoke(None, thread())

    assert state == {"items": ["a", "b", "c", "d"]}
    assert ran == ["a", "b", "c", "c", "d"]
