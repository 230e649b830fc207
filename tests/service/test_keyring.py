"""The keyring: keys are read from a real Prefect again and again, and never revealed."""

import hmac
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from threading import Event
from time import monotonic
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.client.schemas.objects import BlockDocument

from keys import READ, UNKNOWN, put_key, remove_keys
from prefect_executions.blocks.key import (
    ANYBODY,
    SETTINGS,
    Caller,
    Permission,
    create_key,
    list_keys,
    revoke_key,
)
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.local import Stack, free_ports
from prefect_executions.service import keyring as keyrings
from prefect_executions.service.keyring import GRACE_SECONDS, Keyring

MAX_AGE = 20.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a slow Prefect is not taken for an unavailable one."""
    monkeypatch.setattr(keyrings, "PATIENCE_SECONDS", 20.0)


class Hand:
    """A clock that a test sets forward."""

    ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead


class Watched:
    """A client of the real Prefect that can fail, be slow, and counts requests."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self.away = False
        self.reads = 0
        self.updates: list[dict[str, Any]] = []
        self.may_read, self.reading = Event(), Event()
        self.hold_answer = False
        self.may_answer, self.read = Event(), Event()
        self.may_update, self.updated = Event(), Event()
        self.may_read.set()
        self.may_update.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def read_block_documents_by_type(self, slug: str, **options: Any) -> list[BlockDocument]:
        self.reads += 1
        self.reading.set()
        assert self.may_read.wait(20)
        if self.away:
            raise httpx.ConnectError("away")
        documents = self._client.read_block_documents_by_type(slug, **options)
        if self.hold_answer:
            self.read.set()
            assert self.may_answer.wait(20)
        return documents

    def update_block_document(self, document_id: UUID, update: BlockDocumentUpdate) -> None:
        assert self.may_update.wait(20)
        self.updates.append(update.data)
        try:
            self._client.update_block_document(document_id, update)
        finally:
            self.updated.set()


@pytest.fixture
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    """A Prefect without keys, before and after the test."""
    with get_client(sync_client=True) as client:
        remove_keys(client)
        yield client
        remove_keys(client)


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def watched(prefect: SyncPrefectClient) -> Watched:
    return Watched(prefect)


@pytest.fixture
def keyring(watched: Watched, hand: Hand) -> Iterator[Keyring]:
    keyring = _keyring(watched, hand)
    yield keyring
    keyring.close()


def _keyring(client: Any, hand: Hand, api_key: str | None = None) -> Keyring:
    return Keyring(client, api_key=api_key, max_age=MAX_AGE, clock=hand)


def _data(secret: str) -> dict[str, Any]:
    return {"digest": sha256(secret.encode()).hexdigest(), "permissions": ["read"]}


def test_a_key_is_known_by_its_secret(prefect: SyncPrefectClient, keyring: Keyring) -> None:
    permissions = [Permission.WRITE, Permission.READ]
    secret = create_key(
        prefect,
        "ci-1",
        permissions=permissions,
        agents=["a"],
        rate_limit="5/hour",
        deployments=["f/d"],
    )

    caller = keyring.caller(secret)

    assert caller == Caller(
        "ci-1", frozenset(permissions), frozenset({"a"}), "5/hour", frozenset({"f/d"})
    )
    assert caller.is_narrowed
    assert len(secret) == 47
    for wrong in (None, "", UNKNOWN, secret[:-1], f"{secret} ", f"{secret}\n", "ci-1"):
        assert keyring.caller(wrong) is None


def test_a_key_is_never_logged(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = create_key(prefect, "a", permissions=READ)
    put_key(prefect, "pasted", {"digest": secret, "permissions": [secret]})

    keyring.caller(secret)
    assert watched.updated.wait(20)
    with pytest.raises(ValueError, match="name: there is a key 'a'; revoke it first") as error:
        create_key(prefect, "a", permissions=READ)

    told = caplog.text + str(error.value) + repr(list_keys(prefect))
    told += repr(vars(keyring)) + repr(vars(keyring._loaded)) + repr(vars(keyring._uses))
    assert "The key 'pasted' lets nobody in" in told
    assert secret.removeprefix("pxk_") not in told


def test_a_name_is_not_given_twice(prefect: SyncPrefectClient, keyring: Keyring) -> None:
    secret = create_key(prefect, "a", permissions=READ)

    with pytest.raises(ValueError, match="revoke it first"):
        create_key(prefect, "a", permissions=list(Permission))

    caller = keyring.caller(secret)
    assert caller is not None
    assert caller.permissions == {Permission.READ}


def test_a_lost_answer_loses_no_key(
    prefect: SyncPrefectClient, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's client repeats a request when its answer was lost."""
    create = SyncPrefectClient.create_block_document

    def twice(self: SyncPrefectClient, new: BlockDocumentCreate) -> BlockDocument:
        create(self, new)
        return create(self, new)

    monkeypatch.setattr(SyncPrefectClient, "create_block_document", twice)

    secret = create_key(prefect, "a", permissions=READ)

    assert keyring.caller(secret) is not None


def test_a_revoked_key_is_refused_within_the_age(
    prefect: SyncPrefectClient, keyring: Keyring, hand: Hand
) -> None:
    secret = create_key(prefect, "a", permissions=READ)
    assert keyring.caller(secret) is not None

    revoke_key(prefect, "a")
    hand.ahead += MAX_AGE

    assert keyring.caller(secret) is None
    assert list_keys(prefect) == []
    with pytest.raises(ValueError, match="name: there is no key 'a'"):
        revoke_key(prefect, "a")


def test_a_key_whose_block_is_deleted_in_the_ui_is_refused(
    prefect: SyncPrefectClient, keyring: Keyring, hand: Hand
) -> None:
    secret, other = (create_key(prefect, name, permissions=READ) for name in "ab")
    assert keyring.caller(secret) is not None

    document = prefect.read_block_document_by_name("a", "execution-key")
    prefect.delete_block_document(document.id)
    hand.ahead += MAX_AGE

    assert keyring.caller(secret) is None
    assert keyring.caller(other) is not None


def test_what_is_known_is_read_again_only_when_it_is_old(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched, hand: Hand
) -> None:
    secret = create_key(prefect, "a", permissions=READ)
    keyring.caller(secret)

    hand.ahead += MAX_AGE / 2
    keyring.caller(secret)
    assert watched.reads == 1
    hand.ahead += MAX_AGE / 2
    keyring.caller(secret)

    assert watched.reads == 2


def test_a_new_key_works_at_once(prefect: SyncPrefectClient, keyring: Keyring) -> None:
    create_key(prefect, "a", permissions=READ)
    assert keyring.caller(UNKNOWN) is None

    secret = create_key(prefect, "b", permissions=READ)

    assert keyring.caller(secret) is not None


def test_a_new_key_works_though_a_reading_had_begun_before(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched
) -> None:
    keyring.caller(create_key(prefect, "a", permissions=READ))
    watched.hold_answer = True
    with ThreadPoolExecutor(1) as pool:
        wrong = pool.submit(keyring.caller, UNKNOWN)
        assert watched.read.wait(20)
        steps = keyring.identify(create_key(prefect, "b", permissions=READ))
        load = next(steps)
        watched.hold_answer = False
        watched.may_answer.set()
        assert wrong.result() is None

    load.result(20)
    next(steps).result(20)

    with pytest.raises(StopIteration) as done:
        next(steps)
    assert done.value.value.name == "b"


def test_many_unknown_keys_make_it_read_once_and_are_all_refused(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched
) -> None:
    known = create_key(prefect, "a", permissions=READ)
    keyring.caller(known)
    watched.may_read.clear()
    watched.reading.clear()

    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(keyring.caller, UNKNOWN) for _ in range(16)]
        assert watched.reading.wait(20)
        assert keyring.caller("no key of ours") is None
        watched.may_read.set()

        assert {answer.result() for answer in answers} == {None}
    # Requests that came during the first load have waited together for one more.
    assert watched.reads < 16 / 2


def test_many_requests_wait_for_one_reading(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched
) -> None:
    secret = create_key(prefect, "a", permissions=READ)
    watched.may_read.clear()

    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(keyring.caller, secret) for _ in range(16)]
        assert watched.reading.wait(20)
        watched.may_read.set()
        callers = {answer.result() for answer in answers}

    assert watched.reads == 1
    assert {caller and caller.name for caller in callers} == {"a"}


def test_all_keys_are_compared_and_not_by_equality(
    prefect: SyncPrefectClient, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first key takes as long as the last one, and as an unknown one."""
    secrets = [create_key(prefect, name, permissions=READ) for name in "abc"]
    keyring.caller(secrets[0])
    compared = 0
    compare = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        nonlocal compared
        compared += 1
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)

    for secret in secrets:
        compared = 0
        assert keyring.caller(secret) is not None
        assert compared == len(secrets)
    compared = 0
    assert keyring.caller(UNKNOWN) is None
    assert compared in (
        2 * len(secrets),
        3 * len(secrets),
    )  # again, since it may be new


@pytest.mark.long
def test_more_keys_than_a_page_of_prefects(prefect: SyncPrefectClient, keyring: Keyring) -> None:
    secrets = [f"pxk_{n:043d}" for n in range(205)]
    for n, secret in enumerate(secrets):
        put_key(prefect, f"key-{n:03d}", _data(secret))

    callers = [keyring.caller(secret) for secret in secrets]

    assert [caller and caller.name for caller in callers] == [f"key-{n:03d}" for n in range(205)]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"digest": None, "permissions": None},
        {"digest": "", "permissions": ["read"]},
        {"digest": "0" * 63, "permissions": ["read"]},
        _data(UNKNOWN) | {"permissions": []},
        _data(UNKNOWN) | {"permissions": "read"},
        _data(UNKNOWN) | {"permissions": ["read", "everything"]},
        _data(UNKNOWN) | {"agents": []},
        _data(UNKNOWN) | {"agents": "a"},
        _data(UNKNOWN) | {"rate_limit": "0/minute"},
        _data(UNKNOWN) | {"created_at": "once"},
    ],
    ids=str,
)
def test_a_broken_block_lets_nobody_in_and_locks_nobody_out(
    prefect: SyncPrefectClient,
    keyring: Keyring,
    caplog: pytest.LogCaptureFixture,
    data: dict[str, Any],
    hand: Hand,
) -> None:
    secret = create_key(prefect, "good", permissions=READ)
    put_key(prefect, "broken", data)

    for _ in range(3):
        hand.ahead += MAX_AGE
        assert keyring.caller(UNKNOWN) is None
        assert keyring.caller(secret) is not None

    broken, good = list_keys(prefect)
    assert broken.problem
    assert good.problem is None
    told = [r for r in caplog.records if "'broken' lets nobody in" in r.getMessage()]
    assert len(told) == 1


def test_fields_of_others_in_a_block_do_not_matter(
    prefect: SyncPrefectClient, keyring: Keyring
) -> None:
    put_key(prefect, "a", _data(UNKNOWN) | {"block_type_slug": "s3-bucket", "later": 1})

    assert keyring.caller(UNKNOWN) is not None


def test_a_block_that_takes_a_reserved_name_lets_nobody_in(
    prefect: SyncPrefectClient, keyring: Keyring
) -> None:
    put_key(prefect, "settings", _data(UNKNOWN))

    assert keyring.caller(UNKNOWN) is None


def test_a_secret_that_could_be_guessed_is_not_looked_up(
    prefect: SyncPrefectClient, keyring: Keyring
) -> None:
    """A block made by hand has the digest of a password."""
    put_key(prefect, "weak", _data("password"))

    assert keyring.caller("password") is None


def test_the_last_use_is_noted_once_a_minute(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched, hand: Hand
) -> None:
    secret = create_key(prefect, "a", permissions=READ, agents=["x"], rate_limit="5/hour")
    [before] = list_keys(prefect)

    for _ in range(5):
        keyring.caller(secret)
    assert watched.updated.wait(20)
    [after] = list_keys(prefect)
    assert after.last_used_at is not None
    assert (datetime.now(UTC) - after.last_used_at).total_seconds() < 60
    hand.ahead += 50
    keyring.caller(secret)
    watched.updated.clear()
    hand.ahead += 10
    keyring.caller(secret)

    assert watched.updated.wait(20)
    assert [list(data) for data in watched.updates] == [["last_used_at"]] * 2
    assert (after.permissions, after.agents, after.rate_limit, after.created_at) == (
        before.permissions,
        before.agents,
        before.rate_limit,
        before.created_at,
    )


def test_nobody_waits_for_the_note_of_a_use(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched, hand: Hand
) -> None:
    """A revocation is noticed while the write of a last use is stuck."""
    secret = create_key(prefect, "a", permissions=READ)
    watched.may_update.clear()
    assert keyring.caller(secret) is not None

    revoke_key(prefect, "a")
    hand.ahead += MAX_AGE

    assert keyring.caller(secret) is None
    watched.may_update.set()
    assert watched.updated.wait(20)


def test_a_late_note_does_not_bring_a_revoked_key_back(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched, hand: Hand
) -> None:
    secret = create_key(prefect, "a", permissions=list(Permission))
    watched.may_update.clear()
    keyring.caller(secret)

    revoke_key(prefect, "a")
    new = create_key(prefect, "a", permissions=READ)
    watched.may_update.set()
    assert watched.updated.wait(20)
    hand.ahead += MAX_AGE

    assert keyring.caller(secret) is None
    [left] = list_keys(prefect)
    assert left.permissions == {Permission.READ}
    assert left.last_used_at is None
    assert keyring.caller(new) is not None


def test_a_late_note_changes_nothing_else(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched
) -> None:
    """The block is edited in the UI between the use and its note."""
    secret = create_key(prefect, "a", permissions=list(Permission))
    watched.may_update.clear()
    keyring.caller(secret)

    document = prefect.read_block_document_by_name("a", "execution-key")
    prefect.update_block_document(
        document.id, BlockDocumentUpdate(data={"permissions": ["read"], "agents": ["x"]})
    )
    watched.may_update.set()
    assert watched.updated.wait(20)

    [key] = list_keys(prefect)
    assert key.permissions == {Permission.READ}
    assert key.agents == frozenset({"x"})
    assert key.last_used_at is not None


def test_while_prefect_is_away_it_goes_on_for_a_minute(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched, hand: Hand
) -> None:
    secret = create_key(prefect, "a", permissions=READ)
    known = keyring.caller(secret)
    watched.away = True

    hand.ahead += GRACE_SECONDS - 10
    assert keyring.caller(secret) == known
    hand.ahead += 10
    with pytest.raises(PrefectUnavailable, match="the keys can't be read: ConnectError: away"):
        keyring.caller(secret)
    watched.away = False
    hand.ahead += 1.1

    assert keyring.caller(secret) == known


def test_while_prefect_is_away_an_unknown_key_is_not_called_wrong(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched, hand: Hand
) -> None:
    """It may be a new one, and an agent gives up when its key is refused."""
    create_key(prefect, "a", permissions=READ)
    assert keyring.caller(UNKNOWN) is None
    watched.away = True
    hand.ahead += 2 * MAX_AGE

    with pytest.raises(PrefectUnavailable, match="may be new"):
        keyring.caller(UNKNOWN)
    assert keyring.caller("no key of ours") is None


def test_while_prefect_is_away_it_is_asked_once_a_second_and_told_once(
    prefect: SyncPrefectClient,
    keyring: Keyring,
    watched: Watched,
    hand: Hand,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = create_key(prefect, "a", permissions=READ)
    keyring.caller(secret)
    watched.away = True
    hand.ahead += MAX_AGE

    began = monotonic()
    for _ in range(3):
        for _ in range(10):
            assert keyring.caller(secret) is not None
        hand.ahead += 1

    assert 1 + 3 <= watched.reads <= 1 + 4 + (monotonic() - began)
    assert caplog.text.count("can't be read from Prefect") == 1


def test_while_prefect_does_not_answer_nobody_waits_long(
    prefect: SyncPrefectClient,
    keyring: Keyring,
    watched: Watched,
    hand: Hand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = create_key(prefect, "a", permissions=READ)
    known = keyring.caller(secret)
    monkeypatch.setattr(keyrings, "PATIENCE_SECONDS", 0.05)
    watched.may_read.clear()
    hand.ahead += MAX_AGE

    assert keyring.caller(secret) == known
    hand.ahead += GRACE_SECONDS
    with pytest.raises(PrefectUnavailable):
        keyring.caller(secret)
    watched.may_read.set()


def test_an_odd_failure_does_not_end_the_reading(
    prefect: SyncPrefectClient,
    keyring: Keyring,
    watched: Watched,
    hand: Hand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = create_key(prefect, "a", permissions=READ)
    with monkeypatch.context() as patch:
        patch.setattr(keyrings, "documents_of", lambda *_: 1 / 0)
        with pytest.raises(PrefectUnavailable, match="division"):
            keyring.caller(secret)
    hand.ahead += 1

    assert keyring.caller(secret) is not None


def test_the_key_in_the_settings_works_without_prefect(watched: Watched, hand: Hand) -> None:
    watched.away = True
    keyring = _keyring(watched, hand, "the key of the settings, é")

    assert keyring.caller("the key of the settings, é") is SETTINGS
    assert SETTINGS.permissions == set(Permission)
    assert keyring.caller("wrong") is None
    assert keyring.caller(None) is None
    assert not keyring.is_open
    assert watched.reads == 0
    keyring.close()


def test_a_closed_keyring_refuses_what_it_does_not_know(
    prefect: SyncPrefectClient, keyring: Keyring
) -> None:
    keyring.caller(create_key(prefect, "a", permissions=READ))
    keyring.close()
    keyring._loaded._scheduler.join(20)

    with pytest.raises(PrefectUnavailable, match="may be new"):
        keyring.caller(UNKNOWN)


@pytest.mark.parametrize("api_key", [None, ""])
def test_without_any_key_everybody_is_let_in(
    watched: Watched, hand: Hand, api_key: str | None
) -> None:
    keyring = _keyring(watched, hand, api_key)

    assert keyring.is_open
    assert keyring.caller(None) is ANYBODY
    assert keyring.caller("any") is ANYBODY
    keyring.close()


def test_the_first_key_shuts_the_service(
    prefect: SyncPrefectClient, keyring: Keyring, hand: Hand
) -> None:
    assert keyring.is_open
    secret = create_key(prefect, "a", permissions=READ)
    hand.ahead += MAX_AGE

    assert keyring.caller(None) is None
    assert keyring.caller(secret) is not None
    assert not keyring.is_open


@pytest.mark.parametrize("broken", [False, True])
def test_the_revocation_of_the_last_key_opens_nothing(
    prefect: SyncPrefectClient, keyring: Keyring, hand: Hand, broken: bool
) -> None:
    if broken:
        put_key(prefect, "a", {})
    else:
        create_key(prefect, "a", permissions=READ)
    assert not keyring.is_open

    revoke_key(prefect, "a")
    hand.ahead += MAX_AGE

    assert keyring.caller(None) is None
    assert keyring.caller(UNKNOWN) is None
    assert not keyring.is_open


def test_what_is_not_known_is_not_taken_for_open(hand: Hand) -> None:
    nowhere = SyncPrefectClient(f"http://127.0.0.1:{free_ports(1)}/api")
    keyring = _keyring(nowhere, hand)

    with pytest.raises(PrefectUnavailable):
        _ = keyring.is_open
    with pytest.raises(PrefectUnavailable):
        keyring.caller(None)
    keyring.close()


def test_a_wrong_address_of_prefect_is_not_taken_for_open(stack: Stack, hand: Hand) -> None:
    """It answers 404, as Prefect does before the first key is made."""
    keyring = _keyring(SyncPrefectClient(f"{stack.api_url}/nothing"), hand)

    with pytest.raises(PrefectUnavailable):
        _ = keyring.is_open
    keyring.close()


def test_before_the_first_key_there_is_no_block_type(
    prefect: SyncPrefectClient, keyring: Keyring
) -> None:
    kind = prefect.read_block_type_by_slug("execution-key")
    prefect.delete_block_type(kind.id)

    assert list_keys(prefect) == []
    assert keyring.is_open
    secret = create_key(prefect, "a", permissions=READ)
    assert [key.name for key in list_keys(prefect)] == ["a"]
    assert secret


def test_a_closed_keyring_goes_on_with_what_it_knows(
    prefect: SyncPrefectClient, keyring: Keyring, watched: Watched, hand: Hand
) -> None:
    """The last requests of a service that stops are answered."""
    secret = create_key(prefect, "a", permissions=READ)
    known = keyring.caller(secret)
    keyring.close()
    hand.ahead += MAX_AGE

    assert keyring.caller(secret) == known
    assert watched.reads == 1
