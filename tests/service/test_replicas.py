"""Two replicas of the service: any call may go to either."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client

from prefect_executions.local import Stack
from prefect_executions.storage.cache import CachedObjects
from rest import KEY
from serving import served

pytestmark = pytest.mark.long


HEADERS = {"Authorization": f"Bearer {KEY}"}


class Replicas:
    """Clients of both replicas, used in turn."""

    def __init__(self, clients: list[httpx.Client]) -> None:
        self.clients = clients
        self._turn = cycle(clients)

    def call(self, method: str, path: str, status: int, **request: Any) -> Any:
        answer = next(self._turn).request(method, f"/v1/execution{path}", **request)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None


@pytest.fixture
def replicas(stack: Stack) -> Iterator[Replicas]:
    prefix, store = uuid4().hex, uuid4().hex
    with ExitStack() as opened:
        prefect = opened.enter_context(get_client(sync_client=True))
        clients = []
        for _ in range(2):
            objects = CachedObjects(stack.s3.objects(prefix=prefix))
            url = opened.enter_context(served(prefect, objects, store=store))
            clients.append(
                opened.enter_context(httpx.Client(base_url=url, headers=HEADERS, timeout=60))
            )
        yield Replicas(clients)


def test_a_life_told_to_both_in_turn(replicas: Replicas) -> None:
    call = replicas.call
    id_ = call("POST", "", 201, json={"name": "a", "config": {"max_retries": 1}})["id"]
    for n in range(5):
        saved = call("PUT", f"/{id_}/checkpoint", 201, json={"state": {"n": n}, "attempt": 1})
        assert call("GET", f"/{id_}", 200)["state"] == {"n": n}
    call("POST", f"/{id_}/pause", 202)
    call("POST", f"/{id_}/pause", 200)
    call("POST", f"/{id_}/resume", 202, json={"checkpoint_id": "ckpt_000002"})
    begun = call("POST", f"/{id_}/attempt", 201)
    assert (begun["state"], begun["prefect"]["attempt"]) == ({"n": 0}, 2)
    call("PUT", f"/{id_}/checkpoint", 409, json={"state": {}, "attempt": 1})
    call("POST", f"/{id_}/fail", 202, json={"error": "no", "attempt": 2})
    call("POST", f"/{id_}/attempt", 201)
    call("POST", f"/{id_}/complete", 202, json={"result": 7, "attempt": 3})
    assert call("GET", f"/{id_}", 200)["result"] == 7
    assert len(call("GET", f"/{id_}/checkpoints", 200)["items"]) == 5
    diff = f"/{id_}/checkpoints/ckpt_000002/diff/{saved['checkpoint']['id']}"
    assert call("GET", diff, 200)["patch"] == [{"op": "replace", "path": "/n", "value": 4}]
    call("DELETE", f"/{id_}", 204)
    for _ in replicas.clients:
        call("GET", f"/{id_}", 404)
        call("GET", f"/{id_}/checkpoints/ckpt_000002", 404)


def test_pages_go_on_at_the_other_one(replicas: Replicas) -> None:
    made = [replicas.call("POST", "", 201, json={"name": f"{n}"})["id"] for n in range(7)]

    seen, cursor = [], None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = replicas.call("GET", "", 200, params=query)
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == made[::-1]


def test_a_key_of_a_request_is_known_to_both(replicas: Replicas) -> None:
    headers = {"Idempotency-Key": "k"}

    first = replicas.call("POST", "", 201, json={"name": "a"}, headers=headers)
    again = replicas.call("POST", "", 200, json={"name": "a"}, headers=headers)

    assert first["id"] == again["id"]


def test_checkpoints_sent_to_both_at_once_are_all_kept(replicas: Replicas) -> None:
    id_ = replicas.call("POST", "", 201, json={"name": "a"})["id"]

    def save(n: int) -> str:
        client = replicas.clients[n % 2]
        answer = client.put(f"/v1/execution/{id_}/checkpoint", json={"state": n, "attempt": 1})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["checkpoint"]["id"])

    with ThreadPoolExecutor(8) as pool:
        saved = dict(zip(pool.map(save, range(40)), range(40), strict=True))

    for client in replicas.clients:
        told = client.get(f"/v1/execution/{id_}", params={"checkpoints": "all"}).json()
        assert {point["id"]: point["state"] for point in told["checkpoints"]} == saved


def test_of_two_that_begin_at_once_one_goes_on(replicas: Replicas) -> None:
    id_ = replicas.call("POST", "", 201, json={"name": "a"})["id"]

    def begin(client: httpx.Client) -> int:
        answer = client.post(f"/v1/execution/{id_}/attempt")
        assert answer.status_code == 201, answer.text
        return int(answer.json()["prefect"]["attempt"])

    with ThreadPoolExecutor(2) as pool:
        attempts = sorted(pool.map(begin, replicas.clients))

    assert attempts == [2, 3]
    for attempt, status in ((2, 409), (3, 201)):
        for _ in replicas.clients:
            body = {"state": {}, "attempt": attempt}
            replicas.call("PUT", f"/{id_}/checkpoint", status, json=body)
