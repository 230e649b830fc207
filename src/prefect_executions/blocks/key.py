"""The block type of an API key of the REST service; creating, listing and revoking keys."""

import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from pydantic import AfterValidator, Field, ValidationError

from prefect_executions.blocks.documents import documents_of, problem_of
from prefect_executions.config import Name
from prefect_executions.prefect.errors import prefect_errors
from prefect_executions.settings import DeploymentName

MAX_NAME = 100

_PREFIX = "pxk_"
SECRET = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[a-z0-9-]+")


class Permission(StrEnum):
    """What a key allows; none of them implies another."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


@dataclass(frozen=True)
class Caller:
    """The caller of a request, according to its key.

    Args:
        name: The name of the key.
        permissions: What the key allows.
        agents: The only agents whose executions it may access, or None for all executions.
        rate_limit: Replaces the service's own, as in `100/minute`.
        deployments: The only deployments whose executions it may access and create, as
            `flow/deployment`, or None for all executions.
    """

    name: str
    permissions: frozenset[Permission]
    agents: frozenset[str] | None = None
    rate_limit: str | None = None
    deployments: frozenset[str] | None = None

    @property
    def is_narrowed(self) -> bool:
        """Whether there are executions that it may not access."""
        return self.agents is not None or self.deployments is not None


SETTINGS = Caller("settings", frozenset(Permission))  # with the key in the settings
ANYBODY = Caller("anybody", frozenset(Permission))  # when there are no keys at all
NOBODY = Caller("nobody", frozenset())  # with a wrong key, or before the key was checked
_RESERVED = {SETTINGS.name, ANYBODY.name, NOBODY.name}


def _check_rate_limit(text: str) -> str:
    from limits import parse_many  # noqa: PLC0415  # slow to import, and flows do not need it

    try:
        limits = parse_many(text)
    except ValueError:
        limits = []
    if len(limits) != 1 or limits[0].amount < 1:  # the service would use the first of several
        raise ValueError("give one number of requests, at least 1, and a time: `100/minute`")
    return text


class ExecutionKey(Block):
    """A key for the REST service of executions, named like its block document.

    The key itself is shown once, when it is created, and is not kept. Make keys with `create_key`;
    revoke them with `revoke_key` or by deleting the block. To narrow a key, revoke it and make
    another.

    Attributes:
        digest: The SHA-256 of the key.
        permissions: What the key allows.
        agents: The only agents whose executions it may access.
        deployments: The only deployments whose executions it may access and create.
        rate_limit: How many requests it may send.
        created_at: When it was made.
        last_used_at: When it was last used.

    Example:
        Look at a key:
        ```python
        from prefect_executions.blocks import ExecutionKey

        key = ExecutionKey.load("BLOCK_NAME")
        print(key.permissions, key.last_used_at)
        ```
    """

    _block_type_name = "Execution Key"
    _block_type_slug = "execution-key"
    _description = (
        "A key for the REST service of durable executions. Delete the block to revoke the key."
    )
    _logo_url = "https://cdn.sanity.io/images/3ugk85nk/production/d74b16fe84ce626345adf235a47008fea2869a60-225x225.png"  # type: ignore[assignment]
    _documentation_url = "https://docs.prefect.io/v3/concepts/blocks"  # type: ignore[assignment]

    digest: str = Field(
        title="Digest",
        pattern=r"^[0-9a-f]{64}$",
        description="The SHA-256 of the key, in hexadecimal digits; the key itself is not kept.",
    )
    permissions: list[Permission] = Field(
        title="Permissions",
        min_length=1,
        description="What the key allows: read, write, delete. None of them implies another.",
    )
    agents: Annotated[list[Name], Field(min_length=1)] | None = Field(
        default=None,
        title="Agents",
        description="The only agents whose executions it may touch. By default all executions.",
    )
    deployments: Annotated[list[DeploymentName], Field(min_length=1)] | None = Field(
        default=None,
        title="Deployments",
        description="The only deployments whose executions it may touch and create, as "
        "flow-name/deployment-name. By default all executions.",
    )
    rate_limit: Annotated[str, AfterValidator(_check_rate_limit)] | None = Field(
        default=None,
        title="Rate Limit",
        description="How many requests it may send, as in 100/minute. By default the service's.",
    )
    created_at: datetime | None = Field(
        default=None, title="Created At", description="When the key was made."
    )
    last_used_at: datetime | None = Field(
        default=None,
        title="Last Used At",
        description="When the key was last used, to a minute.",
    )


@dataclass(frozen=True)
class Key:
    """A description of a key, without its secret and digest.

    Args:
        name: Its name.
        permissions: What it allows.
        agents: The only agents whose executions it may access, or None for all executions.
        deployments: The only deployments whose executions it may access and create, or None.
        rate_limit: Replaces the service's own.
        created_at: When it was made.
        last_used_at: When it was last used, to a minute, or None when it never was.
        problem: Why the service does not accept its block document, or None when it does.
    """

    name: str
    permissions: frozenset[Permission] = frozenset()
    agents: frozenset[str] | None = None
    deployments: frozenset[str] | None = None
    rate_limit: str | None = None
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    problem: str | None = None


def create_key(
    client: SyncPrefectClient,
    name: str,
    *,
    permissions: Collection[Permission],
    agents: Collection[str] | None = None,
    deployments: Collection[str] | None = None,
    rate_limit: str | None = None,
) -> str:
    """Make a key and return it. It is not shown again.

    Args:
        client: A client of Prefect.
        name: Its name: at most 100 lowercase letters, digits and dashes.
        permissions: What it allows, at least one permission.
        agents: The only agents whose executions it may access; by default all executions.
        deployments: The only deployments whose executions it may access and create, as
            `flow-name/deployment-name`; by default all executions. `agent/outside-prefect` is that
            of agents outside Prefect.
        rate_limit: How many requests it may send, as in `100/minute`; by default the service's.

    Raises:
        ValueError: an argument is wrong, or a key of this name exists; nothing was made.
        PrefectUnavailable: Prefect does not respond, or refuses.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ValueError(
            f"name: {name!r} is not 1 to {MAX_NAME} lowercase letters, digits and dashes; "
            "a name like `ci-1` is."
        )
    if name in _RESERVED:
        raise ValueError(f"name: {name!r} is reserved for the service; give another name.")
    secret = _PREFIX + secrets.token_urlsafe(32)
    try:
        key = ExecutionKey(
            digest=digest_of(secret).hex(),
            permissions=sorted(set(permissions)),
            agents=None if agents is None else sorted(set(agents)),
            deployments=None if deployments is None else sorted(set(deployments)),
            rate_limit=rate_limit,
            created_at=datetime.now(UTC),
        )
    except ValidationError as error:
        raise ValueError(problem_of(error)) from None  # the error would show the digest
    with prefect_errors():
        _save(client, name, key)
    return secret


def list_keys(client: SyncPrefectClient) -> list[Key]:
    """All keys in the order of their names, including those with a broken block document.

    Raises:
        PrefectUnavailable: Prefect does not respond, or refuses.
    """
    documents = documents_of(client, ExecutionKey.get_block_type_slug())
    return sorted((_described(document) for document in documents), key=lambda key: key.name)


def revoke_key(client: SyncPrefectClient, name: str) -> None:
    """Delete a key. Services refuse it within a few seconds.

    That is the `max_age` of their keyring, or a minute when they do not reach Prefect.

    Raises:
        ValueError: there is no key of this name.
        PrefectUnavailable: Prefect does not respond, or refuses.
    """
    for document in documents_of(client, ExecutionKey.get_block_type_slug()):
        if document.name == name:
            # It is not found when another process has just revoked it.
            with prefect_errors(), suppress(ObjectNotFound):
                client.delete_block_document(document.id)
            return
    raise ValueError(f"name: there is no key {name!r}; `list_keys` names those that there are.")


def digest_of(secret: str) -> bytes:
    """The SHA-256 of a key, which is kept in its place."""
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _save(client: SyncPrefectClient, name: str, key: ExecutionKey) -> None:
    ExecutionKey.register_type_and_schema(_sync=True)  # type: ignore[call-arg]
    slug = key.get_block_type_slug()
    new = BlockDocumentCreate(
        name=name,
        data=key.model_dump(mode="json", include=set(ExecutionKey.model_fields)),
        block_type_id=ExecutionKey._block_type_id,
        block_schema_id=ExecutionKey._block_schema_id,
    )
    try:
        client.create_block_document(new)
    except ObjectAlreadyExists:
        # The key is ours when Prefect's client has repeated a request whose response was lost.
        there = client.read_block_document_by_name(name, slug)
        if there.data.get("digest") != key.digest:
            raise ValueError(
                f"name: there is a key {name!r}; revoke it first, or give another name."
            ) from None


def key_in(document: BlockDocument) -> ExecutionKey | str:
    """Read the key in a block document, which anyone may have written; else say what is wrong."""
    if document.name is None or document.name in _RESERVED:
        return f"its name must not be {document.name!r}"
    fields = ExecutionKey.model_fields
    try:
        return ExecutionKey.model_validate(
            {name: value for name, value in document.data.items() if name in fields}
        )
    except ValidationError as error:
        return problem_of(error)


def caller_in(document: BlockDocument, key: ExecutionKey) -> Caller:
    """The caller that a block document's key stands for."""
    return Caller(
        f"{document.name}",
        frozenset(key.permissions),
        None if key.agents is None else frozenset(key.agents),
        key.rate_limit,
        None if key.deployments is None else frozenset(key.deployments),
    )


def _described(document: BlockDocument) -> Key:
    key = key_in(document)
    if isinstance(key, str):
        return Key(f"{document.name}", problem=key)
    caller = caller_in(document, key)
    return Key(**vars(caller), created_at=key.created_at, last_used_at=key.last_used_at)
