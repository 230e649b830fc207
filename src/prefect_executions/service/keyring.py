"""The keys that a service accepts, read from Prefect again and again."""

import hmac
import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from threading import Lock
from time import monotonic
from typing import TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument

from prefect_executions.background import Scheduler
from prefect_executions.blocks.documents import documents_of, write
from prefect_executions.blocks.key import (
    ANYBODY,
    SECRET,
    SETTINGS,
    Caller,
    ExecutionKey,
    caller_in,
    digest_of,
    key_in,
)
from prefect_executions.errors import PrefectUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

GRACE_SECONDS = 60.0  # how long the known keys are accepted while Prefect does not answer
PATIENCE_SECONDS = 5.0  # how long a request waits for keys that are being loaded
_RETRY_SECONDS = 1.0  # between a failed load and the next one
_NEW_KEY_SECONDS = 0.25  # between a load and the next one for an unknown key, which may be new
_USED_SECONDS = 60.0  # between two writes of one key's `last_used_at`


@dataclass(frozen=True)
class _LoadedKey:
    document_id: UUID
    digest: bytes
    caller: Caller


@dataclass(frozen=True)
class _Load:
    began_at: float
    done: Future[None]


class Keyring:
    """The keys that a service accepts, read from Prefect again and again; safe in many threads.

    A revoked key is refused within `max_age` seconds. A new one is accepted at once: for an unknown
    key the keys are read again, four times a second at most.
    While Prefect does not answer, the known keys are accepted for at most a minute.

    Keys are looked up by their plain SHA-256. That would not do for passwords, but keys are 32
    random bytes, which cannot be guessed from a digest. Strings that `create_key` cannot have made
    are not looked up, whatever a block document contains.

    Once there has been a key, the service stays closed when the last key is revoked.

    Args:
        client: A client of the Prefect server that has the block documents.
        api_key: One more key that allows everything, from the settings; None or empty for none.
            It works without Prefect.
        max_age: How old the known keys may be, in seconds.
        clock: Returns seconds.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        *,
        api_key: str | None,
        max_age: float = 5.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._settings = digest_of(api_key) if api_key else None
        self._max_age = max_age
        self._clock = clock
        self._loaded = LoadedKeys(client, clock)
        # With a thread of their own: a slow write must not keep a revoked key alive.
        self._uses = LastUses(client, clock)

    def close(self) -> None:
        """Stop the threads; afterwards nothing is read or written any more."""
        self._loaded.close()
        self._uses.close()

    @property
    def is_open(self) -> bool:
        """Whether there is no key at all, so that everybody is let in; it may block.

        Raises:
            PrefectUnavailable: It is not known whether there are keys.
        """
        if not self._is_shut:
            _drive(self._load_if_old())
        return not self._is_shut

    def caller(self, secret: str | None) -> Caller | None:
        """The caller with this key; it blocks for five seconds at most while keys are read.

        Args:
            secret: The key in the request, or None.

        Returns:
            None for an unknown key, `ANYBODY` when there is no key at all.

        Raises:
            PrefectUnavailable: Prefect's server has not answered for a minute; or it does not
                answer now, and the key may be a new one.
        """
        return _drive(self.identify(secret))

    def identify(self, secret: str | None) -> Generator[Future[None], None, Caller | None]:
        """Do what `caller` does, without blocking.

        Yields:
            A future to wait for, at most `PATIENCE_SECONDS`, before the next step.
        """
        digest = digest_of(secret or "")
        if self._settings is not None and hmac.compare_digest(digest, self._settings):
            return SETTINGS
        is_ours = secret is not None and SECRET.fullmatch(secret) is not None
        if self._is_shut and not is_ours:
            return None
        yield from self._load_if_old()
        if not self._is_shut:
            return ANYBODY
        if not is_ours:
            return None
        if (key := self._find(digest)) is None:
            key = yield from self._find_new(digest)
        if key is None:
            return None
        self._uses.note(key)
        return key.caller

    @property
    def _is_shut(self) -> bool:
        return self._settings is not None or self._loaded.found_any

    def _find(self, digest: bytes) -> _LoadedKey | None:
        """Compare with all keys, found or not, so that the time does not depend on the key."""
        found = None
        for key in self._loaded.keys:
            if hmac.compare_digest(key.digest, digest) and found is None:
                found = key
        return found

    def _find_new(self, digest: bytes) -> Generator[Future[None], None, _LoadedKey | None]:
        asked_at = self._clock()
        for _ in range(2):  # a load under way may have begun before the key was made
            if (load := self._loaded.load_soon()) is not None:
                yield load
            if (key := self._find(digest)) is not None or self._loaded.loaded_at >= asked_at:
                return key
        # "Unknown" would be a guess, and agents give up when they are refused.
        raise PrefectUnavailable(f"a key may be new: {self._loaded.problem or 'no answer yet'}")

    def _load_if_old(self) -> Generator[Future[None], None, None]:
        if (load := self._loaded.load_if_older(self._max_age)) is not None:
            yield load
        if self._clock() - self._loaded.loaded_at > max(GRACE_SECONDS, self._max_age):
            problem = self._loaded.problem or "no answer yet"
            raise PrefectUnavailable(f"the keys can't be read: {problem}")


class LoadedKeys:
    """The keys in Prefect, as they were when last loaded; a thread of its own loads them.

    Args:
        client: A client of the Prefect server that has the block documents.
        clock: Returns seconds.

    Attributes:
        keys: The usable keys.
        found_any: Whether there has ever been a key, usable or not.
        loaded_at: When the last successful load began.
        problem: Why the last load failed, or None.
    """

    def __init__(self, client: SyncPrefectClient, clock: Callable[[], float]) -> None:
        self.keys: list[_LoadedKey] = []
        self.found_any = False
        self.loaded_at = self._failed_at = float("-inf")
        self.problem: str | None = None
        self._client = client
        self._clock = clock
        self._lock = Lock()
        self._load: _Load | None = None
        self._warned: set[tuple[UUID, str]] = set()
        self._closed = False
        self._scheduler = Scheduler("executions-keys")

    def close(self) -> None:
        """Stop the thread; afterwards nothing is loaded any more."""
        with self._lock:
            self._closed = True
        self._scheduler.stop()

    def load_soon(self) -> Future[None] | None:
        """The load under way, or one that begins soon, but not too soon after the one before."""
        with self._lock:
            if self._load is None and not self._closed:
                now = self._clock()
                due = max(self.loaded_at + _NEW_KEY_SECONDS, self._failed_at + _RETRY_SECONDS, now)
                self._begin_load(due)
            return None if self._load is None else self._load.done

    def load_if_older(self, seconds: float) -> Future[None] | None:
        """The load to wait for, begun if necessary; None when it is not worth waiting."""
        with self._lock:
            now = self._clock()
            if now - self.loaded_at < seconds:
                return None
            if self._load is None:
                if self._closed or now - self._failed_at < _RETRY_SECONDS:
                    return None
                return self._begin_load(now).done
            return self._load.done if now - self._load.began_at < PATIENCE_SECONDS else None

    def _begin_load(self, due: float) -> _Load:
        self._load = _Load(due, Future())
        # So that a request which leaves while it waits cannot cancel the load for the others.
        self._load.done.set_running_or_notify_cancel()
        self._scheduler.after(due - self._clock(), partial(self._load_keys, self._load))
        return self._load

    def _load_keys(self, load: _Load) -> None:
        try:
            documents = documents_of(self._client, ExecutionKey.get_block_type_slug())
            keys = [key for document in documents if (key := self._usable(document))]
        except Exception as error:  # of any kind: without this thread every key would be refused
            self._not_loaded(error)
        else:
            with self._lock:
                if self.problem is not None:
                    logger.info("The keys can be read from Prefect again")
                self.problem = None
                self.keys = keys
                self.found_any = self.found_any or bool(documents)
                self.loaded_at = load.began_at
        with self._lock:
            self._load = None
        load.done.set_result(None)

    def _not_loaded(self, error: Exception) -> None:
        with self._lock:
            if self.problem is None:
                logger.warning("The keys can't be read from Prefect: %s", error)
            self.problem = error.problem if isinstance(error, PrefectUnavailable) else f"{error}"
            self._failed_at = self._clock()

    def _usable(self, document: BlockDocument) -> _LoadedKey | None:
        key = key_in(document)
        if isinstance(key, ExecutionKey):
            return _LoadedKey(document.id, bytes.fromhex(key.digest), caller_in(document, key))
        if (document.id, key) not in self._warned:
            self._warned.add((document.id, key))
            logger.warning("The key %r lets nobody in: %s", document.name, key)
        return None


class LastUses:
    """Writes when keys were last used, once a minute at most for each key, in a thread of its own.

    Args:
        client: A client of the Prefect server that has the block documents.
        clock: Returns seconds.
    """

    def __init__(self, client: SyncPrefectClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._lock = Lock()
        self._noted: dict[UUID, float] = {}
        self._scheduler = Scheduler("executions-keys-used")

    def close(self) -> None:
        """Stop the thread; afterwards nothing is written any more."""
        self._scheduler.stop()

    def note(self, key: _LoadedKey) -> None:
        """Note that a key has just been used; it does not block."""
        with self._lock:
            now = self._clock()
            if now - self._noted.get(key.document_id, float("-inf")) < _USED_SECONDS:
                return
            recent = {id_: at for id_, at in self._noted.items() if now - at < _USED_SECONDS}
            self._noted = {**recent, key.document_id: now}
        self._scheduler.after(0, partial(self._write, key, datetime.now(UTC)))

    def _write(self, key: _LoadedKey, at: datetime) -> None:
        try:
            write(self._client, key.document_id, last_used_at=at.isoformat())
        except Exception as error:  # it is only a note, and the thread has more to write
            logger.debug("When %r was used could not be noted: %s", key.caller.name, error)


def _drive(steps: Generator[Future[None], None, T]) -> T:
    try:
        while True:
            wait([next(steps)], timeout=PATIENCE_SECONDS)
    except StopIteration as done:
        result: T = done.value
        return result
