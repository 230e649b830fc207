"""The block type of a store: the bucket or directory that executions are kept in; loading it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast
from uuid import UUID

from anyio import to_thread
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from prefect_executions.circuit import Circuit
from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import (
    PrefectUnavailable,
    StoreNotFound,
    StoreUnavailable,
    UnsuitableStore,
)
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.storage.directory import DirectoryObjects
from prefect_executions.storage.objects import Guardable, Objects
from prefect_executions.storage.probe import probe
from prefect_executions.storage.renewal import RenewedObjects
from prefect_executions.stores import owner
from prefect_executions.stores.here import directory_here

logger = logging.getLogger(__name__)

DEFAULT = "default"  # the name of the store where nothing else is said
_CREDENTIALS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_ANOTHER = "To save another store: `prefect-executions store create --bucket … --overwrite`."
_OF_BUCKETS = (
    "bucket",
    "region_name",
    "endpoint_url",
    *_CREDENTIALS,
    "encryption",
    "kms_key_id",
    "path_style",
    "checksums",
)


class ExecutionStore(Block):
    """The S3 bucket, or the directory, that executions are kept in.

    Attributes:
        directory: A directory, in place of a bucket.
        bucket: The bucket, which must exist.
        prefix: Put before every key.
        region_name: The bucket's region.
        endpoint_url: The URL of an S3-compatible server, instead of AWS.
        aws_access_key_id: A fixed access key.
        aws_secret_access_key: Its secret.
        aws_session_token: The session token of temporary credentials.
        encryption: Server-side encryption of every object.
        kms_key_id: The KMS key to encrypt with.
        path_style: Put the bucket's name in the path instead of the host.
        checksums: When checksums are sent with objects, and checked.
        keep_checkpoints: How many of an execution's newest checkpoints are kept, or None for all.
        keep_labelled: Whether checkpoints with a label are kept, too.
        delete_after_seconds: How long after its end an execution is deleted, or None for never.

    Example:
        Save a store, which checks it first, and load it:
        ```python
        from prefect_executions.blocks import ExecutionStore

        store = ExecutionStore(bucket="my-executions", region_name="eu-central-1")
        store.save("default")

        store = ExecutionStore.load("BLOCK_NAME")
        ```
        A directory, where all flows, the service and the supervisor run on one machine:
        ```python
        ExecutionStore(directory="/var/lib/executions").save("default")
        ```
    """

    __module__ = "prefect_executions.blocks"  # where users find it: steps record this of an input
    _block_type_name = "Execution Store"
    _block_type_slug = "execution-store"
    _description = (
        "The S3 bucket, or the directory, that durable executions are kept in: their state, "
        "checkpoints and attempts."
    )
    _logo_url = "https://cdn.sanity.io/images/3ugk85nk/production/d74b16fe84ce626345adf235a47008fea2869a60-225x225.png"  # type: ignore[assignment]
    _documentation_url = "https://docs.prefect.io/v3/concepts/blocks"  # type: ignore[assignment]

    bucket: str | None = Field(
        default=None,
        title="Bucket",
        min_length=3,
        description="The S3 bucket; it must exist and keep conditional writes.",
    )
    prefix: str = Field(
        default="executions",
        title="Prefix",
        pattern=r"^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?$",
        description="Put before every key, without slashes at its ends; may be empty.",
    )
    directory: str | None = Field(
        default=None,
        title="Directory",
        min_length=1,
        description=(
            "In place of a bucket: a directory, where all that uses it runs on one machine."
        ),
    )
    region_name: str | None = Field(
        default=None,
        title="Region",
        description="The bucket's region. By default that of the AWS configuration.",
    )
    endpoint_url: str | None = Field(
        default=None,
        title="Endpoint URL",
        pattern=r"^https?://",
        description="The URL of an S3-compatible server. By default AWS.",
    )
    aws_access_key_id: str | None = Field(
        default=None,
        title="AWS Access Key ID",
        description=(
            "A fixed access key. By default AWS's chain is asked: environment, profile, role."
        ),
    )
    aws_secret_access_key: SecretStr | None = Field(
        default=None,
        title="AWS Secret Access Key",
        description="The secret of the access key.",
    )
    aws_session_token: SecretStr | None = Field(
        default=None,
        title="AWS Session Token",
        description="The session token, with temporary credentials.",
    )
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        default=None,
        title="Encryption",
        description=(
            "Server-side encryption: AES256 (SSE-S3) or aws:kms (SSE-KMS). By default what the "
            "bucket says."
        ),
    )
    kms_key_id: str | None = Field(
        default=None,
        title="KMS Key ID",
        description="The key for aws:kms. By default the account's own.",
    )
    path_style: bool = Field(
        default=False,
        title="Path Style",
        description="Name the bucket in the path, as most S3-compatible servers want.",
    )
    checksums: Literal["when_supported", "when_required"] | None = Field(
        default=None,
        title="Checksums",
        description=(
            "`when_required` for S3-compatible servers that refuse uploads with a checksum, or "
            "keep its framing within the object. By default what the AWS configuration says, or "
            "else `when_supported`."
        ),
    )
    keep_checkpoints: int | None = Field(
        default=None,
        ge=1,
        title="Keep Checkpoints",
        description=(
            "How many of the newest checkpoints stay of an execution that does not say so itself. "
            "By default all."
        ),
    )
    keep_labelled: bool = Field(
        default=False,
        title="Keep Labelled",
        description="Whether checkpoints with a label stay, however old they are.",
    )
    delete_after_seconds: float | None = Field(
        default=None,
        ge=0,
        title="Delete After",
        description=(
            "How many seconds after its end an execution is deleted that does not say so itself. "
            "By default never."
        ),
    )

    _is_default: bool = PrivateAttr(default=False)  # nobody has saved it

    @field_validator("directory")
    @classmethod
    def _check_directory(cls, directory: str | None) -> str | None:
        if directory is not None and not Path(directory).expanduser().is_absolute():
            raise ValueError(
                f"{directory!r} is relative, and each process has another working directory; give "
                f"the whole path, as in {f'{Path(directory).absolute()}'!r}"
            )
        return directory

    @model_validator(mode="after")
    def _check_place(self) -> "ExecutionStore":
        if self.bucket is None and self.directory is None:
            raise ValueError("bucket: name the bucket that keeps executions, or a `directory`")
        if self.directory is not None and (
            given := [name for name in _OF_BUCKETS if getattr(self, name)]
        ):
            raise ValueError(f"directory: goes without {', '.join(given)}, which a bucket has")
        return self

    @model_validator(mode="after")
    def _check_pairs(self) -> "ExecutionStore":
        if bool(self.aws_access_key_id) != bool(self.aws_secret_access_key):
            raise ValueError("aws_access_key_id and aws_secret_access_key go together")
        if self.kms_key_id and self.encryption != "aws:kms":
            raise ValueError("kms_key_id needs encryption 'aws:kms'")
        return self

    def objects(self) -> Objects:
        """The objects in this place. Override this to keep executions in another one."""
        if self.directory is not None:
            return DirectoryObjects(Path(self.directory).expanduser())
        # boto3 takes long to import, and is not needed when another store is used.
        from prefect_executions.storage.s3 import S3Objects  # noqa: PLC0415

        assert self.bucket is not None  # by `_check_place`
        return S3Objects(
            bucket=self.bucket,
            prefix=self.prefix,
            region=self.region_name,
            endpoint=self.endpoint_url,
            access_key_id=self.aws_access_key_id,
            secret_access_key=_reveal(self.aws_secret_access_key),
            session_token=_reveal(self.aws_session_token),
            encryption=self.encryption,
            kms_key_id=self.kms_key_id,
            path_style=self.path_style,
            checksums=self.checksums,
        )

    def open(self, circuit: Circuit | None = None) -> Objects:
        """`objects`, for long: credentials that are saved anew in the block are taken over.

        When the store refuses a request, the block is read from Prefect again, every five seconds
        at most. Only its credentials are taken over: a log stays in its bucket.

        Args:
            circuit: Requests go through it, if `objects` returns something `Guardable`.
        """
        if self.name is None or self.directory is not None:
            return _within(circuit, self.objects())
        current = self

        def renew() -> Objects | None:
            nonlocal current
            try:
                saved = _load(type(self), f"{self.name}")
            except (PrefectUnavailable, StoreNotFound) as error:
                logger.warning("The credentials of the store can't be read anew: %s", error)
                return None
            fresh = {name: getattr(saved, name) for name in _CREDENTIALS}
            if fresh == {name: getattr(current, name) for name in _CREDENTIALS}:
                return None
            logger.info("The store has refused; its credentials were saved anew.")
            current = current.model_copy(update=fresh)
            return _within(circuit, current.objects())

        return RenewedObjects(_within(circuit, self.objects()), renew)

    @property
    def retention(self) -> ExecutionConfig:
        """The retention settings of executions that have none of their own."""
        return ExecutionConfig(
            keep_checkpoints=self.keep_checkpoints,
            keep_labelled=self.keep_labelled,
            delete_after_seconds=self.delete_after_seconds,
        )

    @property
    def name(self) -> str | None:
        """The name that the block is saved under, or None when it is not saved."""
        return DEFAULT if self._is_default else self._block_document_name

    @property
    def place(self) -> str:
        """The bucket or the directory, for people."""
        if self.directory is not None:
            return f"directory {self.directory!r}"
        return f"bucket {self.bucket!r}"

    @property
    def notice(self) -> str | None:
        """What people are to know of a store that nobody has saved; None of others."""
        if not self._is_default:
            return None
        return (
            f"Executions are kept here, in {self.directory}: there is no Execution Store "
            f"block {DEFAULT!r}. To keep them in a bucket: "
            "prefect-executions store create --bucket my-executions"
        )

    def save(
        self,
        name: str | None = None,
        overwrite: bool = False,
        client: PrefectClient | None = None,
        **dispatch: bool,
    ) -> UUID:
        """Check the store with `check`, `claim` it, and save the block document: see `Block.save`.

        A store that is saved in the Prefect UI is checked and claimed when the service starts.

        Raises:
            UnsuitableStore, StoreUnavailable: see `check`; nothing was saved.
            ForeignStore: it belongs to another Prefect; nothing was saved.
        """
        self._check(name)
        self.claim()
        return cast("UUID", super().save(name, overwrite, client, **dispatch))

    async def asave(
        self,
        name: str | None = None,
        overwrite: bool = False,
        client: PrefectClient | None = None,
    ) -> UUID:
        """`save`, in async code."""
        await to_thread.run_sync(self._check, name)
        await to_thread.run_sync(self.claim)
        return await super().asave(name=name, overwrite=overwrite, client=client)

    def check(self) -> None:
        """Check that the place exists and keeps the law of `Objects`, on which durability rests.

        Raises:
            UnsuitableStore: see `probe`.
            StoreRefused: the bucket does not exist, or the credentials are wrong or lack a right;
                or the directory may not be written to.
            StoreUnavailable: the bucket does not respond, or the disk is full.
        """
        self._check(self.name)

    def claim(self) -> None:
        """Make the store that of this Prefect, if it is nobody's; see `stores.owner`.

        Raises:
            ForeignStore: it belongs to another Prefect.
            StoreUnavailable, PrefectUnavailable: one of them does not respond.
        """
        self._own(owner.claim)

    def adopt(self) -> None:
        """Take the store over from another Prefect, which is gone for good.

        Its executions stay in the store, and have no flow runs in this one: see `gc`. If the other
        one still runs, each would take the executions of the other for left over.

        Raises:
            StoreUnavailable, PrefectUnavailable: one of them does not respond.
        """
        self._own(owner.adopt)

    def _own(self, act: Callable[[Objects, SyncPrefectClient], None]) -> None:
        with prefect_errors():
            ExecutionStore.register_type_and_schema(_sync=True)  # type: ignore[call-arg]
        with get_client(sync_client=True) as client:
            act(self.objects(), client)

    def _check(self, name: str | None) -> None:
        """`check`, for a block of this name; errors name it, and the bucket."""
        block = f"Execution Store {name or self.name or 'without a name'!r}"
        try:
            probe(self.objects())
        except UnsuitableStore as error:
            raise UnsuitableStore(f"{block}, {self.place}: {error} {_ANOTHER}") from error
        except StoreUnavailable as error:  # it names the place
            problem = f"{block}, {error.problem}"
            raise type(error)(error.operation, problem, error.mend) from error


def load_store(name: str | None = None) -> ExecutionStore:
    """Load a store from Prefect. This blocks: in async code, call it in a thread.

    Where Prefect's server is on this machine, and nobody has saved a store `default`, that is a
    directory here.

    Args:
        name: The name of the block document; by default the one in the settings.

    Raises:
        StoreNotFound: there is no such block document.
        PrefectUnavailable: Prefect does not respond.
    """
    name = name or ExecutionsSettings().store
    try:
        return _load(ExecutionStore, name)
    except StoreNotFound:
        directory = directory_here() if name == DEFAULT else None
        if directory is None:
            raise
    store = ExecutionStore(directory=f"{directory}")
    store._is_default = True
    return store


def _load(kind: type[ExecutionStore], name: str) -> ExecutionStore:
    try:
        with prefect_errors():
            # Without `_sync`, Prefect would return a coroutine in a thread of an async flow.
            loaded = kind.load(name, _sync=True)  # type: ignore[call-arg]
        return cast("ExecutionStore", loaded)
    except ValueError as error:
        if isinstance(error.__cause__, ObjectNotFound):
            raise StoreNotFound(name) from error
        raise


def _within(circuit: Circuit | None, objects: Objects) -> Objects:
    if circuit is not None and isinstance(objects, Guardable):
        return objects.within(circuit)
    return objects


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
