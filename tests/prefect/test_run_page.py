"""The Markdown text of a run's page."""

from datetime import UTC, datetime
from typing import Any

import pytest
from markdown_it import MarkdownIt

from prefect_executions import serialization
from prefect_executions.config import Status
from prefect_executions.prefect.run_page import NEWEST, Row, RunPage, duration, progress

AT = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
URL = "PREFECT_INTEGRATIONS_EXECUTIONS_SERVICE_URL"


def row(n: int, label: str | None = None) -> Row:
    return Row(f"ckpt_{n:06d}", label, AT, 1, 804_000, 1_234)


def page(**facts: Any) -> RunPage:
    known: dict[str, Any] = {
        "execution_id": "exec_1",
        "status": Status.RUNNING,
        "attempt": 2,
        "active_seconds": 200.4,
        "state": b"{}",
        "checkpoints": [],
    }
    return RunPage(**{**known, **facts})


def html(text: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(text)


def test_a_page_tells_where_it_stands() -> None:
    text = page(checkpoints=[row(2, "batch 7"), row(1)], state=b'{"done": 3, "total": 5}').text()

    assert text.startswith("**running** · attempt 2 · 3 min 20 s active · state 23 bytes\n")
    assert "▰▰▰▰▰▰▰▰▰▰▰▰▱▱▱▱▱▱▱▱ 60% (3 of 5)" in text
    assert "<td>batch 7</td>" in html(text)
    assert html(text).count("<tr>") == 3
    assert "804.0 kB" in text
    assert "1.2 kB" in text


def test_a_label_can_be_anything() -> None:
    nasty = "a | b `c` <script>x</script> [l](http://e) *d*\n# e"

    shown = html(page(checkpoints=[row(1, nasty)]).text())

    assert "<script>" not in shown
    assert "<a " not in shown
    assert "<em>" not in shown
    assert shown.count("<td") == 6


def test_it_links_to_the_service_where_its_url_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "](" not in page(checkpoints=[row(1)]).text()

    monkeypatch.setenv(URL, "https://executions.example.com/")
    text = page(checkpoints=[row(1)]).text()

    assert "(https://executions.example.com/ui/exec_1/ckpt_000001)" in text
    assert "(https://executions.example.com/v1/execution/exec_1)" in text


@pytest.mark.parametrize(
    ("status", "hint"),
    [(Status.FAILED, "Retry"), (Status.TERMINATED, "Retry"), (Status.PAUSED, "Resume")],
)
def test_it_says_what_to_do_next(status: Status, hint: str) -> None:
    text = page(status=status, message="it <broke>").text()

    assert f"**{hint}**" in text
    assert ("it \\<broke\\>" in text) == (status is not Status.PAUSED)


def test_it_shows_the_newest_only() -> None:
    rows = [row(n) for n in range(100, 0, -1)]

    assert html(page(checkpoints=rows).text()).count("<tr>") == NEWEST + 1


@pytest.mark.parametrize(
    ("state", "fraction"),
    [
        ({"progress": 0.25}, 0.25),
        ({"progress": 25}, 0.25),
        ({"progress": 1}, 1.0),
        ({"done": 1, "total": 4}, 0.25),
        ({"done": ["a"], "total": 4}, 0.25),
        ({"done": 5, "total": 4}, None),
        ({"done": 0, "total": 0}, None),
        ({"progress": True}, None),
        ({"progress": -1}, None),
        ({"progress": "half"}, None),
        ([1], None),
        (None, None),
    ],
)
def test_progress(state: Any, fraction: float | None) -> None:
    known = progress(serialization.load(serialization.dump(state)))

    assert (known and known[0]) == fraction


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7_260, "2 h 01 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
