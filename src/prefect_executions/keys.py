"""API keys: one block document of type Execution Key each, and the keyring that knows them."""

import hmac
import logging
import re
import secrets
from collections.abc import Callable, Collection, Generator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from hashlib import sha256
from threading import Lock
from time import monotonic
from typing import Annotated, TypeVar
from uuid import UUID

import httpx
from limits import parse_many
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from pydantic import AfterValidator, Field, ValidationError

from prefect_executions.errors import PrefectUnavailable
from prefect_executions.models import Name
from prefect_executions.pacer import Pacer
from prefect_executions.prefect_errors import prefect_errors

logger = logging.getLogger(__name__)

T = TypeVar("T")

GRACE_SECONDS = 60.0  # for how long what is known is served while Prefect does not answer
PATIENCE_SECONDS = 5.0  # for how long a request waits for keys that are being loaded
MAX_NAME = 100

_RETRY_SECONDS = 1.0  # after a load that failed, the next one
_NEW_KEY_SECONDS = 0.25  # an unknown key may be new: so long after a load comes the next
_USED_SECONDS = 60.0  # between two writes of one key's `last_used_at`
_PREFIX = "pxk_"
_SECRET = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[a-z0-9-]+")


class Permission(StrEnum):
    """What a key allows; none of them implies another."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


@dataclass(frozen=True)
class Caller:
    """Who sent a request, as its key says.

    Args:
        name: The key's name.
        permissions: What it allows.
        agents: The only agents whose executions it may touch; None: all executions.
        rate_limit: In the place of the service's own, as in `100/minute`.
    """

    name: str
    permissions: frozenset[Permission]
    agents: frozenset[str] | None = None
    rate_limit: str | None = None


SETTINGS = Caller("settings", frozenset(Permission))  # who knows the key in the settings
ANYBODY = Caller("anybody", frozenset(Permission))  # while there is no key at all
NOBODY = Caller("nobody", frozenset())  # whose key was not looked at, or is none
_RESERVED = {SETTINGS.name, ANYBODY.name, NOBODY.name}


def _check_rate_limit(text: str) -> str:
    try:
        limits = parse_many(text)
    except ValueError:
        limits = []
    if len(limits) != 1 or limits[0].amount < 1:  # of several, the service would take the first
        raise ValueError("give one number of requests, at least 1, and a time: `100/minute`")
    return text


class ExecutionKey(Block):
    """A key for the REST service of executions, named like its block document.

    The key itself is shown once, when it is created, and not kept: make keys with `create_key`, and
    revoke them there or by deleting the block. To narrow a key, revoke it and make another.

    Attributes:
        digest: The SHA-256 of the key.
        permissions: What the key allows.
        agents: The only agents whose executions it may touch.
        rate_limit: How many requests it may send.
        created_at: When it was made.
        last_used_at: When it was last used.

    Example:
        Look at a key:
        ```python
        from prefect_executions.keys import ExecutionKey

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
    """What is known of a key, without what could be used in its place.

    Args:
        name: Its name.
        permissions: What it allows.
        agents: The only agents whose executions it may touch; None: all executions.
        rate_limit: In the place of the service's own.
        created_at: When it was made.
        last_used_at: When it was last used, to a minute; None: never.
        problem: Why its block document lets nobody in; None: it does.
    """

    name: str
    permissions: frozenset[Permission] = frozenset()
    agents: frozenset[str] | None = None
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
    rate_limit: str | None = None,
) -> str:
    """Make a key, and return it: the only time that it is shown.

    Args:
        client: A client of the Prefect server that the settings name.
        name: What it is called: at most 100 lowercase letters, digits and dashes.
        permissions: What it allows, at least one.
        agents: The only agents whose executions it may touch; by default all executions.
        rate_limit: How many requests it may send, as in `100/minute`; by default the service's.

    Raises:
        ValueError: an argument is wrong, or there is a key of this name; nothing was made.
        PrefectUnavailable: Prefect's server does not answer, or refuses.
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
            digest=_digest(secret).hex(),
            permissions=sorted(set(permissions)),
            agents=None if agents is None else sorted(set(agents)),
            rate_limit=rate_limit,
            created_at=datetime.now(UTC),
        )
    except ValidationError as error:
        raise ValueError(_problem_of(error)) from None  # it would show the digest
    with prefect_errors():
        _save(client, name, key)
    return secret


def list_keys(client: SyncPrefectClient) -> list[Key]:
    """All keys by name, those too whose block document is broken.

    Raises:
        PrefectUnavailable: Prefect's server does not answer, or refuses.
    """
    with prefect_errors():
        documents = _documents(client)
    return sorted((_described(document) for document in documents), key=lambda key: key.name)


def revoke_key(client: SyncPrefectClient, name: str) -> None:
    """Delete a key: services refuse it from then on, within a few seconds.

    How many is the keyring's `max_age`, and a minute when the service does not reach Prefect.

    Raises:
        ValueError: there is no key of this name.
        PrefectUnavailable: Prefect's server does not answer, or refuses.
    """
    with prefect_errors():
        for document in _documents(client):
            if document.name == name:
                with suppress(ObjectNotFound):  # somebody else has revoked it just now
                    client.delete_block_document(document.id)
                return
    raise ValueError(f"name: there is no key {name!r}; `list_keys` names those that there are.")


@dataclass(frozen=True)
class _Held:
    document_id: UUID
    digest: bytes
    caller: Caller


class Keyring:
    """The keys that a service accepts, read from Prefect again and again; safe in many threads.

    A revoked key is refused within `max_age` seconds. A new one is known at once: for a key that is
    not known the keys are read again, four times a second at most.
    While Prefect does not answer, the keyring goes on with what it knew, for at most a minute.

    Keys are looked up by their plain SHA-256. That is right for them, as it would not be for
    passwords: they are 32 random bytes, so nobody can try them out against a digest. Other strings
    than those that `create_key` makes are not looked up, whatever a block document says.

    Once there has been a key, its revocation does not open the service to everybody.

    Args:
        client: Where the block documents are.
        api_key: One more key that allows everything, from the settings; None or empty: there is
            none. It works without Prefect.
        max_age: How old what is known may be, in seconds.
        clock: Tells seconds.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        *,
        api_key: str | None,
        max_age: float = 5.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client = client
        self._settings = _digest(api_key) if api_key else None
        self._max_age = max_age
        self._grace = max(GRACE_SECONDS, max_age)
        self._clock = clock
        self._lock = Lock()
        self._held: list[_Held] = []
        self._shut = bool(api_key)
        self._loaded_at = self._failed_at = self._load_began = float("-inf")
        self._load: Future[None] | None = None
        self._problem: str | None = None
        self._told: set[tuple[UUID, str]] = set()
        self._used: dict[UUID, float] = {}
        self._closed = False
        # Two threads: a write that Prefect lets wait must not keep a revoked key alive.
        self._loader = Pacer("executions-keys")
        self._writer = Pacer("executions-keys-used")

    def close(self) -> None:
        """Stop the threads; afterwards nothing is read or written any more."""
        with self._lock:
            self._closed = True
        self._loader.stop()
        self._writer.stop()

    @property
    def is_open(self) -> bool:
        """Whether there is no key at all, so that everybody is let in; it may block.

        Raises:
            PrefectUnavailable: whether there are keys is not known.
        """
        if not self._shut:
            _drive(self._not_older_than(self._max_age))
        return not self._shut

    def caller(self, secret: str | None) -> Caller | None:
        """Who sends this key; it blocks when the keys are due to be read, five seconds at most.

        Args:
            secret: What was sent; None: nothing.

        Returns:
            None when nobody has this key, `ANYBODY` when there is no key at all.

        Raises:
            PrefectUnavailable: Prefect's server does not answer, and has not for a minute; or it
                does not just now, and the key may be a new one.
        """
        return _drive(self.identify(secret))

    def identify(self, secret: str | None) -> Generator[Future[None], None, Caller | None]:
        """What `caller` does, for those who wait in another way.

        Yields:
            What to wait for, at most `PATIENCE_SECONDS`, before the next step.
        """
        digest = _digest(secret or "")
        if self._settings is not None and hmac.compare_digest(digest, self._settings):
            return SETTINGS
        is_ours = secret is not None and _SECRET.fullmatch(secret) is not None
        if self._shut and not is_ours:
            return None
        yield from self._not_older_than(self._max_age)
        if not self._shut:
            return ANYBODY
        if not is_ours:
            return None
        if (held := self._find(digest)) is None:
            held = yield from self._find_anew(digest)
        if held is None:
            return None
        self._note_use(held)
        return held.caller

    def _find_anew(self, digest: bytes) -> Generator[Future[None], None, _Held | None]:
        asked_at = self._clock()
        for _ in range(2):  # a load under way may have begun before the key was made
            if (load := self._load_anew()) is not None:
                yield load
            if (held := self._find(digest)) is not None or self._loaded_at >= asked_at:
                return held
        # "No" would be a guess, and agents give up on a no.
        raise PrefectUnavailable(f"a key may be new: {self._problem or 'no answer yet'}")

    def _find(self, digest: bytes) -> _Held | None:
        """Look at all keys, found or not, so that the time tells nothing of where one stands."""
        found = None
        for held in self._held:
            if hmac.compare_digest(held.digest, digest) and found is None:
                found = held
        return found

    def _age(self) -> float:
        return self._clock() - self._loaded_at

    def _not_older_than(self, seconds: float) -> Generator[Future[None], None, None]:
        if (load := self._load_if_older(seconds)) is not None:
            yield load
        if self._age() > self._grace:
            raise PrefectUnavailable(f"the keys can't be read: {self._problem or 'no answer yet'}")

    def _load_anew(self) -> Future[None] | None:
        """The load under way, or one that begins soon, but not too soon after the one before."""
        with self._lock:
            if self._load is not None or self._closed:
                return self._load
            now = self._clock()
            due = max(self._loaded_at + _NEW_KEY_SECONDS, self._failed_at + _RETRY_SECONDS, now)
            return self._begin_load(due)

    def _begin_load(self, due: float) -> Future[None]:
        self._load = Future()
        # So that nobody who waits for it, and leaves, can cancel it for the others.
        self._load.set_running_or_notify_cancel()
        self._load_began = due
        self._loader.after(due - self._clock(), self._load_keys)
        return self._load

    def _load_if_older(self, seconds: float) -> Future[None] | None:
        """The load to wait for, begun if need be; None when it is not worth waiting."""
        with self._lock:
            now = self._clock()
            if now - self._loaded_at < seconds:
                return None
            if self._load is None:
                if self._closed or now - self._failed_at < _RETRY_SECONDS:
                    return None
                self._begin_load(now)
            return self._load if now - self._load_began < PATIENCE_SECONDS else None

    def _load_keys(self) -> None:
        try:
            with prefect_errors():
                documents = _documents(self._client)
            held = [held for document in documents if (held := self._opened(document))]
        except Exception as error:  # whatever it is: were this thread to end, nobody could get in
            self._not_loaded(error)
        else:
            with self._lock:
                if self._problem is not None:
                    logger.info("The keys can be read from Prefect again")
                self._problem = None
                self._held = held
                self._shut = self._shut or bool(documents)
                self._loaded_at = self._load_began
                known = {key.document_id for key in held}
                self._used = {key: at for key, at in self._used.items() if key in known}
        with self._lock:
            load, self._load = self._load, None
        if load is not None:
            load.set_result(None)

    def _not_loaded(self, error: Exception) -> None:
        with self._lock:
            if self._problem is None:
                logger.warning("The keys can't be read from Prefect: %s", error)
            self._problem = f"{error}"
            self._failed_at = self._clock()

    def _opened(self, document: BlockDocument) -> _Held | None:
        key = _opened(document)
        if isinstance(key, ExecutionKey):
            return _Held(document.id, bytes.fromhex(key.digest), _caller(document, key))
        if (document.id, key) not in self._told:
            self._told.add((document.id, key))
            logger.warning("The key %r lets nobody in: %s", document.name, key)
        return None

    def _note_use(self, held: _Held) -> None:
        with self._lock:
            now = self._clock()
            used = self._used.get(held.document_id, float("-inf"))
            if self._closed or now - used < _USED_SECONDS:
                return
            self._used[held.document_id] = now
            self._writer.after(0, partial(self._write_use, held, datetime.now(UTC)))

    def _write_use(self, held: _Held, at: datetime) -> None:
        """Write when a key was used: that alone, and to the one document that it was read from.

        By its id, so that a key revoked meanwhile does not come back, nor one of the same name
        gets what is not its own.
        """
        update = BlockDocumentUpdate(
            data={"last_used_at": at.isoformat()}, merge_existing_data=True
        )
        try:
            self._client.update_block_document(held.document_id, update)
        except Exception as error:  # it is only a note, and the thread has more to write
            logger.debug("When %r was used could not be noted: %s", held.caller.name, error)


def _drive(steps: Generator[Future[None], None, T]) -> T:
    try:
        while True:
            wait([next(steps)], timeout=PATIENCE_SECONDS)
    except StopIteration as done:
        result: T = done.value
        return result


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _documents(client: SyncPrefectClient) -> list[BlockDocument]:
    slug = ExecutionKey.get_block_type_slug()
    try:
        return client.read_block_documents_by_type(slug, include_secrets=False)
    except httpx.HTTPStatusError as error:
        # Without its type there is no key; but a 404 of something else must not look like that.
        if error.response.status_code != httpx.codes.NOT_FOUND or slug in {
            known.slug for known in client.read_block_types()
        }:
            raise
        return []


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
        # Prefect's client repeats a request whose answer was lost: then it is ours.
        there = client.read_block_document_by_name(name, slug)
        if there.data.get("digest") != key.digest:
            raise ValueError(
                f"name: there is a key {name!r}; revoke it first, or give another name."
            ) from None


def _opened(document: BlockDocument) -> ExecutionKey | str:
    """The key in a block document, or why there is none; it may come from the UI, or a script."""
    if document.name is None or document.name in _RESERVED:
        return f"its name must not be {document.name!r}"
    fields = ExecutionKey.model_fields
    try:
        return ExecutionKey.model_validate(
            {name: value for name, value in document.data.items() if name in fields}
        )
    except ValidationError as error:
        return _problem_of(error)


def _caller(document: BlockDocument, key: ExecutionKey) -> Caller:
    agents = None if key.agents is None else frozenset(key.agents)
    return Caller(f"{document.name}", frozenset(key.permissions), agents, key.rate_limit)


def _described(document: BlockDocument) -> Key:
    key = _opened(document)
    if isinstance(key, str):
        return Key(f"{document.name}", problem=key)
    caller = _caller(document, key)
    return Key(**vars(caller), created_at=key.created_at, last_used_at=key.last_used_at)


def _problem_of(error: ValidationError) -> str:
    """Say which fields are wrong, but not what stands in them: somebody may put a key there."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
