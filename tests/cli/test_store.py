"""The command that makes a store, with a real bucket and a real Prefect."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from prefect_executions.cli.store import StoreOptions, option_of, saved_as
from prefect_executions.errors import StoreNotFound
from prefect_executions.local import Stack
from prefect_executions.stores.store import ExecutionStore, load_store
from running import Run


@pytest.fixture
def place(stack: Stack) -> list[str]:
    """The options of a bucket that is there, without credentials."""
    options = ["--bucket", "executions", "--prefix", f"cli-{uuid4().hex}", "--path-style"]
    return [*options, "--endpoint", stack.s3.endpoint, "--region", "us-east-1"]


@pytest.fixture
def credentials(stack: Stack) -> list[str]:
    keys = stack.s3
    return ["--access-key-id", keys.access_key_id, "--secret-access-key", keys.secret_access_key]


def test_a_store_is_checked_and_saved(run: Run, place: list[str], credentials: list[str]) -> None:
    name = f"store-{uuid4().hex}"

    code, out, err = run(
        *("store", "create", "--name", name, *place, *credentials),
        *("--checksums", "when_required", "--keep-checkpoints", "7", "--keep-labelled"),
    )

    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"execution-store/{name} is saved: the bucket 'executions' keeps conditional writes.",
        f"Use it by PREFECT_INTEGRATIONS_EXECUTIONS_STORE={name}.",
    ]
    saved = load_store(name)
    assert (saved.bucket, saved.prefix, saved.path_style) == ("executions", place[3], True)
    assert (saved.checksums, saved.keep_checkpoints) == ("when_required", 7)
    assert (saved.keep_labelled, saved.delete_after_seconds) == (True, None)
    saved.check()


def test_credentials_come_from_the_environment(
    run: Run, stack: Stack, place: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"store-{uuid4().hex}"
    command = ("store", "create", "--name", name, *place, "--credentials-from-environment")
    for variable in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.delenv(f"AWS_{variable}", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", stack.s3.access_key_id)

    assert run(*command) == (
        2,
        "",
        "--credentials-from-environment: AWS_SECRET_ACCESS_KEY is not set.\n",
    )
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stack.s3.secret_access_key)
    code, out, _ = run(*command, "--json")

    assert code == 0
    assert json.loads(out) == {
        "name": name,
        "bucket": "executions",
        "prefix": place[3],
        "directory": None,
    }
    assert load_store(name).aws_access_key_id == stack.s3.access_key_id


def test_one_that_is_there_is_not_overwritten_unless_told(
    run: Run, place: list[str], credentials: list[str]
) -> None:
    name = f"store-{uuid4().hex}"
    command = ("store", "create", "--name", name, *place, *credentials)
    assert run(*command)[0] == 0

    code, out, err = run(*command, "--keep-checkpoints", "3")

    assert (code, out) == (1, "")
    assert f"There is an Execution Store {name!r} already, with the bucket 'executions'." in err
    assert load_store(name).keep_checkpoints is None
    assert run(*command, "--keep-checkpoints", "3", "--overwrite")[0] == 0
    assert load_store(name).keep_checkpoints == 3


def test_without_the_bucket_nothing_is_saved(run: Run, stack: Stack, moto_endpoint: str) -> None:
    name = f"store-{uuid4().hex}"
    place = ["--bucket", "no-such-bucket", "--path-style", "--endpoint", moto_endpoint]
    credentials = ["--access-key-id", "any", "--secret-access-key", "any", "--region", "us-east-1"]

    code, out, err = run("store", "create", "--name", name, *place, *credentials)

    assert (code, out) == (5, "")
    assert f"Execution Store {name!r}, bucket 'no-such-bucket'" in err
    with pytest.raises(StoreNotFound):
        load_store(name)


def test_a_store_may_be_a_directory(run: Run, stack: Stack, tmp_path: Path) -> None:
    name = f"store-{uuid4().hex}"

    code, out, err = run("store", "create", "--name", name, "--directory", f"{tmp_path}")

    assert (code, err) == (0, "")
    assert out.startswith(f"execution-store/{name} is saved: the directory '{tmp_path}' keeps ")
    assert load_store(name).directory == f"{tmp_path}"


def test_a_default_that_nobody_has_saved_is_not_in_the_way(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executions are kept in a directory of this machine then."""

    def find(_: type[ExecutionStore], name: str) -> ExecutionStore:
        raise StoreNotFound(name)

    assert saved_as("default") is not None
    monkeypatch.setattr("prefect_executions.stores.store._load", find)

    assert load_store("default").directory is not None
    assert saved_as("default") is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((), "Value error, bucket: name the bucket"),
        (("--directory", "here"), "--directory: "),
        (("--bucket", "a"), "--bucket: "),
        (("--bucket", "abc", "--endpoint", "here"), "--endpoint: "),
        (("--bucket", "abc", "--keep-checkpoints", "0"), "--keep-checkpoints: "),
        (("--bucket", "abc", "--access-key-id", "a"), "Value error, aws_access_key_id and "),
    ],
)
def test_a_wrong_option_is_named(run: Run, wrong: tuple[str, ...], said: str) -> None:
    code, out, err = run("store", "create", *wrong)

    assert (code, out) == (2, "")
    assert err.startswith(said)


def test_every_field_of_the_block_has_an_option(run: Run) -> None:
    help_ = run("store", "create", "--help")[1]

    assert StoreOptions.__annotations__.keys() == ExecutionStore.model_fields.keys()
    for field in ExecutionStore.model_fields:
        assert f" {option_of(field)} " in help_
