"""Commands that control an execution."""

from dataclasses import replace

from logs import call
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.objects import MemoryObjects
from running import Run, json_of, words


def test_a_roll_back_counts_the_steps_that_have_happened(
    run: Run, url: str, memory: MemoryObjects
) -> None:
    """In one line, however many they are."""
    id_ = json_of(run, "create", "a")["id"]
    one = json_of(run, "checkpoint", id_, "1")["checkpoint"]["id"]
    log = ExecutionLog(memory, id_)
    names = ["fetch", "parse"] * 29
    records = [
        replace(call(at), step=name, undo=False, key=f"{at}") for at, name in enumerate(names, 1)
    ]
    log.record(log.living_head(), [*records, replace(call(59), step="charge")])
    words(run, "pause", id_)

    said = words(run, "resume", id_, "--checkpoint-id", one)

    assert said.splitlines() == [
        f"The steps after {one} have happened: "
        "charge will be undone; 29 × parse, 29 × fetch will not be undone.",
        f"{id_} is running.",
    ]
