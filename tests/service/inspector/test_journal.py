"""The journal in the inspector: what happened, in one list."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Running

from html_pages import Seen
from office import Office
from prefect_executions import serialization
from prefect_executions.ids import flow_run_id
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog

PAGE = 200_000  # bytes


def done(order: int, step: str, result: Any = None, **more: Any) -> Record:
    return Record(
        order=order,
        parent=0,
        key=f"{step} {order}",
        step=step,
        at=datetime.now(UTC),
        outcome=more.pop("outcome", Outcome.DONE),
        result=serialization.dump(result),
        **more,
    )


@pytest.fixture
def id_(office: Office) -> str:
    return office.create(state={"n": 0})


@pytest.fixture
def log(office: Office, id_: str) -> ExecutionLog:
    return office.executions.log(id_)


def titles(page: str) -> list[str]:
    return Seen(page).titles


def test_all_that_happened_stands_in_one_list(
    reader: TestClient, log: ExecutionLog, office: Office, id_: str
) -> None:
    head = log.record(
        log.head(),
        [done(1, "charge", "order-1", undo=True, undo_by="refund", called_with="order=1")],
    )
    head = log.checkpoint(
        head, b'{"n": 1}', label="paid", records=[done(2, "fetch", "<b>page</b>")]
    )
    good = head.entry.seq
    head = log.record(head, [done(3, "charge", "order-2", undo=True, undo_by="refund")])
    head = log.crash(head, answers="it", dead_seconds=3, reason="SIGKILL")
    log.rollback(good)
    head = log.attempt(version="1f2e3d")
    head = log.record(head, [done(4, "slow", outcome=Outcome.BEGUN)])
    log.checkpoint(head, b'{"n": 2}', by="ada", reason="one was lost")
    page = f"/ui/{id_}"

    shown = reader.get(page).text

    assert titles(shown) == [
        "ckpt_000009",
        "slow",
        "Attempt 2 began",
        "Rolled back to ckpt_000003",
        "Crashed",
        "charge",
        "paid",
        "fetch",
        "charge",
        "Attempt 1 began",
        "Created",
    ]
    assert "by ada: one was lost" in shown
    assert "has not returned" in shown
    assert "charge will be undone" in shown
    assert "order=1" in shown
    assert "&lt;b&gt;page&lt;/b&gt;" in shown
    assert "SIGKILL" in shown
    assert "version 1f2e3d" in shown
    assert titles(reader.get(page, params={"kind": "edit"}).text) == ["ckpt_000009"]
    assert titles(reader.get(page, params={"kind": "roll-back"}).text) == [
        "Rolled back to ckpt_000003"
    ]
    assert len(titles(reader.get(page, params={"kind": "step"}).text)) == 4


def test_a_question_and_its_answer(reader: TestClient, log: ExecutionLog, id_: str) -> None:
    asked = {"pause_key": "execution-ask-1"}
    head = log.record(log.head(), [done(1, "ask Go", outcome=Outcome.WAITING, **asked)])
    waiting = reader.get(f"/ui/{id_}").text
    log.record(head, [done(1, "ask Go", {"approved": True}, **asked)])

    answered = reader.get(f"/ui/{id_}", params={"kind": "question"}).text

    assert titles(waiting)[0] == "Asked for Go"
    assert titles(answered) == ["Answered: Go", "Asked for Go"]
    assert "{&#34;approved&#34;:true}" in answered


@task
def fetch() -> None:
    """A step's task, which Prefect is told of here."""


def test_prefect_knows_how_long_steps_took_and_what_was_replayed(
    reader: TestClient, log: ExecutionLog, office: Office, id_: str
) -> None:
    def task_run(number: int, ended: State[Any]) -> None:
        names = {"name": f"fetch-{number}", "dynamic_key": f"{number}"}
        made = office.prefect.create_task_run(fetch, flow_run_id(id_), **names, state=Running())
        office.prefect.set_task_run_state(made.id, ended)

    task_run(1, Completed())
    head = log.record(log.head(), [done(1, "fetch"), done(2, "parse")])
    log.retry(head, answers="it", reason="a time-out")
    log.attempt()
    task_run(2, Completed(name="Replayed"))

    shown = reader.get(f"/ui/{id_}").text

    timed = re.findall(r'class="badge">([0-9.]+ (?:ms|s))<', shown)
    assert len(timed) == 1
    assert "1 × replayed" in shown


def test_ten_thousand_entries_come_in_pages_that_are_small(
    reader: TestClient, log: ExecutionLog, office: Office, id_: str
) -> None:
    head = log.head()
    state = serialization.dump({"text": ["x" * 1000] * 1000})
    head = log.checkpoint(head, state, label="first")
    for number in range(1, 9_999):
        head = log.record(head, [done(number, "fetch", f"page {number}, " * 40)])
    entries = head.entry.seq
    assert entries > 9_990

    shown = reader.get(f"/ui/{id_}")
    until = entries // 2
    middle = reader.get(f"/ui/{id_}", params={"until": until})

    for page in (shown, middle):
        assert len(page.content) < PAGE
        assert len(titles(page.text)) >= 50
    assert "page 9998, page" in shown.text
    assert [link for link in Seen(shown.text).links if "until=" in link] == [
        f"/ui/{id_}?until={entries - 50}#tabs"
    ]


def test_the_pages_have_everything_once(reader: TestClient, log: ExecutionLog, id_: str) -> None:
    head = log.head()
    for number in range(1, 121):
        head = log.record(head, [done(number, f"step-{number}")])
    page, found = f"/ui/{id_}", list[str]()

    while page:
        shown = reader.get(page).text
        found += titles(shown)
        older = [link for link in Seen(shown).links if "until=" in link and link not in page]
        older = [link for link in older if link != page]
        page = max(older, key=len, default="").partition("#")[0]

    assert found == [*(f"step-{n}" for n in range(120, 0, -1)), "Attempt 1 began", "Created"]
