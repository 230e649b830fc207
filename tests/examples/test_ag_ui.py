"""The example that serves an execution as a stream of events of AG-UI."""

import asyncio
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from ag_ui.core import BaseEvent, ResumeEntry, RunAgentInput
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient

from office import Office
from prefect_executions.client import AsyncClient
from rest import KEY
from serving import serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "ag_ui.py"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}}


@pytest.fixture
def office(prefect: SyncPrefectClient) -> Iterator[Office]:
    here = Office(prefect)
    yield here
    here.close()


@pytest.fixture
def url(office: Office, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(office.app) as url:
        monkeypatch.setenv("PREFECT_EXECUTIONS_URL", url)
        monkeypatch.setenv("PREFECT_EXECUTIONS_API_KEY", KEY)
        yield url


def asked(id_: str, **more: Any) -> RunAgentInput:
    return RunAgentInput(thread_id=id_, run_id=uuid4().hex, messages=[], **more)


def plain(event: BaseEvent) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(event.model_dump_json(by_alias=True))
    return read


def test_states_are_a_snapshot_and_deltas(office: Office, url: str) -> None:
    example = runpy.run_path(f"{EXAMPLE}")
    id_ = office.create({"n": 0})

    async def follow() -> list[dict[str, Any]]:
        async with AsyncClient(url, KEY) as client:
            events = example["events"](client, asked(id_))
            seen = [plain(await anext(events)) for _ in range(2)]
            await client.checkpoint(id_, {"n": 1}, attempt=1)
            seen.append(plain(await anext(events)))
            await client.complete(id_, result={"found": 1}, attempt=1)
            return [*seen, *[plain(event) async for event in events]]

    started, snapshot, delta, finished = asyncio.run(follow())

    assert (started["type"], started["threadId"]) == ("RUN_STARTED", id_)
    assert (snapshot["type"], snapshot["snapshot"]) == ("STATE_SNAPSHOT", {"n": 0})
    assert delta["delta"] == [{"op": "replace", "path": "/n", "value": 1}]
    assert (finished["type"], finished["result"]) == ("RUN_FINISHED", {"found": 1})
    assert finished["outcome"] == {"type": "success"}


def test_a_question_is_an_interrupt_and_its_answer_goes_on(office: Office, url: str) -> None:
    example = runpy.run_path(f"{EXAMPLE}")
    id_ = office.create({"n": 0})
    key = office.ask(id_, SCHEMA, "Anything else?")

    def post(run: RunAgentInput) -> list[dict[str, Any]]:
        with TestClient(example["app"]) as client:
            answer = client.post("/", json=json.loads(run.model_dump_json(by_alias=True)))
            assert answer.headers["content-type"].startswith("text/event-stream")
            return [json.loads(line[6:]) for line in answer.text.splitlines() if line]

    async def go_on() -> list[dict[str, Any]]:
        entry = ResumeEntry(interrupt_id=key, status="resolved", payload={"text": "no"})
        async with AsyncClient(url, KEY) as client:
            events = example["events"](client, asked(id_, resume=[entry]))
            seen = [plain(await anext(events)) for _ in range(2)]
            assert (await client.get(id_)).status == "running"
            await client.cancel(id_)
            return [*seen, *[plain(event) async for event in events]]

    paused = post(asked(id_))[-1]
    ended = asyncio.run(go_on())[-1]

    (interrupt,) = paused["outcome"]["interrupts"]
    assert interrupt == {
        "id": key,
        "reason": "question",
        "message": "Anything else?",
        "responseSchema": SCHEMA,
    }
    assert ended["outcome"] == {"type": "cancelled"}


def test_a_failure_is_an_error(office: Office, url: str) -> None:
    example = runpy.run_path(f"{EXAMPLE}")
    id_ = office.create()
    office.fail(id_, "The disk is full.")

    async def follow() -> list[dict[str, Any]]:
        async with AsyncClient(url, KEY) as client:
            return [plain(event) async for event in example["events"](client, asked(id_))]

    error = asyncio.run(follow())[-1]

    assert error["type"] == "RUN_ERROR"
    assert "The disk is full." in error["message"]
