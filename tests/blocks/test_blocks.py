"""The block types, as Prefect sees them."""

import asyncio
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.utilities.dispatch import lookup_type
from pydantic import SecretStr, ValidationError

from block_suite import BlockSuite
from prefect_executions import blocks
from prefect_executions.errors import (
    PrefectUnavailable,
    StoreNotFound,
    StoreRefused,
    StoreUnavailable,
    UnsuitableStore,
)
from prefect_executions.local import S3Server, Stack, free_ports
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.storage.s3 import S3Objects
from prefect_executions.stores.store import ExecutionStore, load_store

SECRET = "do not show this"


class TestExecutionStore(BlockSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return ExecutionStore


def test_the_collection_entry_point_registers_the_blocks() -> None:
    (point,) = entry_points(group="prefect.collections", name="prefect_executions")
    module = point.load()

    assert module.ExecutionStore is lookup_type(Block, "execution-store")
    assert module.ExecutionKey is lookup_type(Block, "execution-key")
    assert module.ExecutionWebhook is lookup_type(Block, "execution-webhook")


@pytest.mark.parametrize("name", blocks.__all__)
def test_a_block_is_a_class_of_the_package_of_blocks(name: str) -> None:
    """A step that is called with one records this name, and is found by it again."""
    block = getattr(blocks, name)

    assert issubclass(block, Block)
    assert (block.__module__, block.__qualname__) == ("prefect_executions.blocks", name)


def test_blocks_load_neither_the_service_nor_s3() -> None:
    """A program imports them to save a store, and Prefect in order to know their types."""
    code = "import sys, prefect_executions.blocks; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(done.stdout.split())
    assert "prefect_executions.blocks.key" in loaded
    assert loaded.isdisjoint({"boto3", "botocore", "limits", "fastapi", "uvicorn"})


def test_the_collection_imports_without_a_word() -> None:
    """When the import fails, Prefect only prints one line, and the blocks are missing."""
    code = "import prefect.plugins as p; bad = [v for v in p.load_prefect_collections().values() "
    code += "if isinstance(v, Exception)]; assert not bad, bad"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_store_is_saved_and_loaded_with_its_secret(stack: Stack) -> None:
    store = stack.s3.store()

    store.save("kept", overwrite=True)
    loaded = load_store("kept")

    assert loaded.aws_secret_access_key == store.aws_secret_access_key
    assert loaded.aws_secret_access_key is not None


def test_saving_a_store_checks_it(stack: Stack) -> None:
    store = stack.s3.store()
    store.endpoint_url = f"http://127.0.0.1:{free_ports(1)}"

    with pytest.raises(StoreUnavailable, match="Could not connect"):
        store.save("never")

    with pytest.raises(StoreNotFound):
        load_store("never")


def test_saving_a_store_checks_it_in_async_code_too(stack: Stack) -> None:
    store = stack.s3.store()
    store.endpoint_url = f"http://127.0.0.1:{free_ports(1)}"

    with pytest.raises(StoreUnavailable):
        asyncio.run(store.asave("never"))

    with pytest.raises(StoreNotFound):
        load_store("never")


def test_the_catalogue_shows_the_store(stack: Stack) -> None:
    """As in a server that was just started: nothing was registered by hand."""
    seen = stack.run("prefect", "block", "type", "inspect", "execution-store")

    assert "Execution Store" in seen
    assert "The S3 bucket" in seen


def test_an_unknown_store_says_how_to_save_one(stack: Stack) -> None:
    with pytest.raises(StoreNotFound, match=r"no Execution Store block 'nowhere'.*save"):
        load_store("nowhere")


def test_the_fields_reach_s3() -> None:
    store = ExecutionStore.model_validate(
        {
            "bucket": "bucket",
            "prefix": "a/b",
            "region_name": "eu-central-1",
            "endpoint_url": "http://localhost:1",
            "aws_access_key_id": "id",
            "aws_secret_access_key": SECRET,
            "aws_session_token": "token",
            "encryption": "aws:kms",
            "kms_key_id": "key",
            "path_style": True,
            "checksums": "when_required",
        }
    )

    objects = store.objects()

    assert objects == S3Objects(
        bucket="bucket",
        prefix="a/b",
        region="eu-central-1",
        endpoint="http://localhost:1",
        access_key_id="id",
        secret_access_key=SECRET,
        session_token="token",
        encryption="aws:kms",
        kms_key_id="key",
        path_style=True,
        checksums="when_required",
    )
    assert SECRET not in repr(store) + repr(objects) + store.model_dump_json()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"bucket": "b"}, "bucket"),
        ({"bucket": "bucket", "prefix": "/a"}, "prefix"),
        ({"bucket": "bucket", "prefix": "a//b"}, "prefix"),
        ({"bucket": "bucket", "endpoint_url": "localhost:9000"}, "endpoint_url"),
        ({"bucket": "bucket", "aws_access_key_id": "id"}, "aws_secret_access_key"),
        ({"bucket": "bucket", "kms_key_id": "key"}, "encryption"),
        ({"bucket": "bucket", "encryption": "none"}, "encryption"),
    ],
)
def test_a_wrong_field_is_named(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ExecutionStore.model_validate(wrong)


def test_a_directory_bucket_is_refused() -> None:
    with pytest.raises(UnsuitableStore, match="does not list its keys in order"):
        ExecutionStore(bucket="name--use1-az4--x-s3").objects()


def test_a_good_store_passes_its_check(s3_server: S3Server) -> None:
    s3_server.store().check()


def test_a_store_with_a_wrong_secret_is_refused(s3_server: S3Server) -> None:
    store = ExecutionStore.model_validate(
        s3_server.store().model_dump() | {"aws_secret_access_key": "wrong"}
    )

    with pytest.raises(StoreRefused, match="SignatureDoesNotMatch") as refusal:
        store.check()

    said = str(refusal.value)
    assert "could not list" in said
    assert "Execution Store 'without a name', bucket 'executions'" in said


def test_an_unsuitable_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(MemoryObjects):
        def create(self, key: str, data: bytes) -> None:
            self._data[key] = data

    store = ExecutionStore(bucket="some-bucket")
    monkeypatch.setattr(ExecutionStore, "objects", lambda _: Careless())

    with pytest.raises(UnsuitableStore, match="Store 'mine', bucket 'some-bucket': 4 of 4"):
        store.save("mine")


def test_credentials_that_are_saved_anew_reach_a_store_that_is_open(stack: Stack) -> None:
    """But no other bucket does."""
    good = stack.s3.store()
    good.prefix = "rotated"
    good.save("rotated", overwrite=True)
    stale = load_store("rotated")
    stale.aws_secret_access_key = SecretStr("revoked")
    elsewhere = good.model_copy(update={"prefix": "elsewhere"})
    elsewhere.save("rotated", overwrite=True)

    objects = stale.open()
    objects.create("a", b"data")

    assert good.objects().get(["a"]) == {"a": b"data"}
    assert elsewhere.objects().get(["a"]) == {}


def test_credentials_that_are_still_wrong_are_refused(stack: Stack) -> None:
    stack.s3.store().save("unchanged", overwrite=True)
    stale = load_store("unchanged")
    stale.bucket = "nowhere"  # the credentials are right

    with pytest.raises(StoreRefused, match="NoSuchBucket"):
        stale.open().get(["a"])


def test_without_prefect_a_refusal_stands(stack: Stack) -> None:
    stack.s3.store().save("alone", overwrite=True)
    stale = load_store("alone")
    stale.aws_secret_access_key = SecretStr("revoked")
    url = f"http://127.0.0.1:{free_ports(1)}/api"

    with (
        temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}),
        pytest.raises(StoreRefused, match="SignatureDoesNotMatch"),
    ):
        stale.open().create("a", b"data")


def test_without_prefect_a_store_is_not_loaded() -> None:
    url = f"http://127.0.0.1:{free_ports(1)}/api"
    with (
        temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}),
        pytest.raises(PrefectUnavailable),
    ):
        load_store("default")
