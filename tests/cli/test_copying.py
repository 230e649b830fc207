"""`copy-store`, with a real bucket, a directory and a real Prefect."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.flows import Flow
from prefect.states import Completed, Running

from logs import filled, numbered
from prefect_executions.ids import execution_id
from prefect_executions.local import Stack
from prefect_executions.log.log import ExecutionLog
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.stores.store import ExecutionStore, load_store
from running import Run


@pytest.fixture
def bucket(stack: Stack) -> str:
    """The name of a block whose bucket has nothing under its prefix."""
    name = f"copies-{uuid4().hex}"
    store = stack.s3.store()
    store.prefix = name
    store.save(name)
    return name


def test_a_directory_goes_to_a_bucket_and_what_runs_is_left(
    run: Run, prefect: SyncPrefectClient, bucket: str, tmp_path: Path
) -> None:
    here = DirectoryObjects(tmp_path / "kept")
    made = [
        prefect.create_flow_run(Flow(lambda: None, name="any"), state=state, tags=["execution"])
        for state in (Completed(), Running())
    ]
    ended, running = (execution_id(run.id) for run in made)
    for id_ in (ended, running):
        filled(ExecutionLog(here, id_), 3)

    code, out, err = run("copy-store", f"{here.path}", bucket, "--json")

    assert code == 1
    assert err.splitlines() == [
        f"{running[-2:]}/{running}: It is running: pause it, or end it.",
        "1 were not copied, or not wholly.",
    ]
    told = json.loads(out)
    assert told.pop("bytes") == here.measure(f"{ended[-2:]}/{ended}/")[1]
    assert told["left"][0].pop("folder") == f"{running[-2:]}/{running}"
    assert told == {
        "executions": 1,
        "objects": 5,
        "new": 5,
        "left": [{"problem": "It is running: pause it, or end it."}],
    }
    there = load_store(bucket).objects()
    assert ExecutionLog(there, ended).head().state == numbered(3)
    assert not ExecutionLog(there, running).exists()

    prefect.set_flow_run_state(made[1].id, Completed(), force=True)
    code, out, err = run("copy-store", f"{here.path}", bucket)

    assert (code, err) == (0, "")
    assert out.startswith("2 executions are in bucket 'executions', and the same as in directory")
    assert "10 objects, 5 of them new" in out
    back = tmp_path / "back"
    assert run("copy-store", bucket, f"{back}")[0] == 0
    found = DirectoryObjects(back)
    assert list(found.scan("")) == list(here.scan("")) == list(there.scan(""))


def test_what_is_no_pair_of_stores_is_refused(run: Run, bucket: str, tmp_path: Path) -> None:
    assert run("copy-store", bucket, bucket) == (
        2,
        "",
        "FROM and TO are one store, bucket 'executions'.\n",
    )
    empty = tmp_path / "empty"
    assert run("copy-store", f"{empty}", bucket) == (
        3,
        "",
        f"FROM: there is nothing in directory '{empty}'.\n",
    )
    assert not empty.exists()
    code, _, err = run("copy-store", bucket, "nowhere")
    assert (code, "no Execution Store block 'nowhere'" in err) == (3, True)


def test_a_store_of_another_prefect_is_refused(run: Run, bucket: str, tmp_path: Path) -> None:
    here = DirectoryObjects(tmp_path / "kept")
    filled(ExecutionLog(here, f"exec_{uuid4().hex}"), 1)
    here.create("owner", b'{"v": 1, "prefect": "another"}')

    code, _, err = run("copy-store", f"{here.path}", bucket)

    assert (code, "belongs to another Prefect" in err) == (1, True)
    assert ExecutionStore.load(bucket).objects().measure("") != (0, 0)  # its owner
    assert list(load_store(bucket).objects().scan("")) == ["owner"]
