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

GRACE_SECONDS = 60.0  # for how long what is known is served while Prefect does not answer
PATIENCE_SECONDS = 5.0  # for how long a request waits for keys that are being loaded
_RETRY_SECONDS = 1.0  # after a load that failed, the next one
_NEW_KEY_SECONDS = 0.25  # an unknown key may be new: so long after a load comes the next
_USED_SECONDS = 60.0  # between two writes of one key's `last_used_at`


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
        self._settings = digest_of(api_key) if api_key else None
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
        self._loader = Scheduler("executions-keys")
        self._writer = Scheduler("executions-keys-used")

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
        digest = digest_of(secret or "")
        if self._settings is not None and hmac.compare_digest(digest, self._settings):
            return SETTINGS
        is_ours = secret is not None and SECRET.fullmatch(secret) is not None
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
            documents = documents_of(self._client, ExecutionKey.get_block_type_slug())
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
            self._problem = error.problem if isinstance(error, PrefectUnavailable) else f"{error}"
            self._failed_at = self._clock()

    def _opened(self, document: BlockDocument) -> _Held | None:
        key = key_in(document)
        if isinstance(key, ExecutionKey):
            return _Held(document.id, bytes.fromhex(key.digest), caller_in(document, key))
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
        """Write when a key was used: that alone."""
        try:
            write(self._client, held.document_id, last_used_at=at.isoformat())
        except Exception as error:  # it is only a note, and the thread has more to write
            logger.debug("When %r was used could not be noted: %s", held.caller.name, error)


def _drive(steps: Generator[Future[None], None, T]) -> T:
    try:
        while True:
            wait([next(steps)], timeout=PATIENCE_SECONDS)
    except StopIteration as done:
        result: T = done.value
        return result
