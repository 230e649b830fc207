"""A store in a directory: as a block, and where nobody has saved a store."""

from pathlib import Path

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from pydantic import ValidationError

from prefect_executions import execution
from prefect_executions.errors import StoreNotFound, StoreRefused
from prefect_executions.local import Stack
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.stores.store import ExecutionStore, load_store


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no block of any name."""

    def find(_: type[ExecutionStore], name: str) -> ExecutionStore:
        raise StoreNotFound(name)

    monkeypatch.setattr("prefect_executions.stores.store._load", find)


@flow
@execution(store="folder")
def counting() -> int:
    run = execution.current()
    for n in range(3):
        run.state["n"] = n
        run.checkpoint()
    return len(run.state)


def test_a_directory_is_a_store_like_a_bucket(stack: Stack, tmp_path: Path) -> None:
    """It is checked, belongs to one Prefect, and is found by its name."""
    ExecutionStore(directory=f"{tmp_path}/kept", keep_checkpoints=2).save("folder", overwrite=True)

    assert counting() == 1

    store = load_store("folder")
    assert (store.directory, store.notice) == (f"{tmp_path}/kept", None)
    assert store.retention.keep_checkpoints == 2
    assert store.open() == store.objects() == DirectoryObjects(tmp_path / "kept")
    keys = list(store.objects().scan(""))
    assert [key.rpartition("/")[2] for key in keys] == [
        *("999999994", "999999995", "999999996", "999999997", "999999998", "999999999"),
        "owner",
    ]


def test_a_directory_that_may_not_be_written_to_is_not_saved(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = ExecutionStore(directory=f"{tmp_path}/file/kept")

    with pytest.raises(StoreRefused, match=r"Execution Store 'never', directory '.*/file/kept'"):
        store.save("never")

    with pytest.raises(StoreNotFound):
        load_store("never")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "bucket: name the bucket that keeps executions, or a `directory`"),
        ({"directory": "kept"}, "'kept' is relative, and each process .* '/.*/kept'"),
        ({"directory": "/kept", "bucket": "bucket"}, "directory: goes without bucket,"),
        (
            {"directory": "/kept", "region_name": "r", "path_style": True},
            "directory: goes without region_name, path_style",
        ),
    ],
)
def test_a_store_has_one_place(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ExecutionStore.model_validate(fields)


def test_home_is_that_of_who_uses_it() -> None:
    objects = ExecutionStore(directory="~/kept").objects()

    assert objects == DirectoryObjects(Path.home() / "kept")


@pytest.mark.parametrize(
    "url", [None, "http://127.0.0.1:4200/api", "http://localhost:4200/api", "http://[::1]:4200/api"]
)
def test_where_prefect_is_on_this_machine_a_directory_is_the_default(
    unsaved: None, url: str | None, tmp_path: Path
) -> None:
    with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: tmp_path}):
        store = load_store()

    assert (store.name, store.directory) == ("default", f"{tmp_path}/executions")
    assert store.objects() == DirectoryObjects(tmp_path / "executions")
    assert store.notice is not None
    assert f"in {tmp_path}/executions:" in store.notice
    assert "prefect-executions store create --bucket my-executions" in store.notice


@pytest.mark.parametrize("url", ["https://prefect.example.com/api", "http://10.0.0.7:4200/api"])
def test_where_prefect_is_elsewhere_a_store_has_to_be_saved(unsaved: None, url: str) -> None:
    """Other machines could not read a directory of this one."""
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(StoreNotFound, match="Make one"):
        load_store()


def test_a_store_that_is_named_has_to_be_saved(
    unsaved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_EXECUTIONS_STORE", "named")

    assert ExecutionsSettings().store == "named"
    for name in (None, "named", "other"):
        with pytest.raises(StoreNotFound):
            load_store(name)
