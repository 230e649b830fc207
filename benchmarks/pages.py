"""The inspector in a real browser: a long execution's page, until something is to be seen."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright
from prefect.client.orchestration import get_client

from benchmarks.measure import Result
from benchmarks.service import PATH, Rest, ok, serving
from benchmarks.serving import KEY
from benchmarks.steps import quiet
from benchmarks.workload import conversation
from prefect_executions import serialization
from prefect_executions.executions.executions import Executions
from prefect_executions.local import Stack
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.serialization import whole_milliseconds

ENTRIES = 10_000
STATE_BYTES = 1_000_000
LOADS = 10
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def pages(data: Path) -> Iterator[Result]:
    """All benchmarks of the inspector's pages."""
    with (
        Stack(data) as stack,
        quiet(stack),
        get_client(sync_client=True) as prefect,
        serving(stack) as rest,
        chromium() as browser,
    ):
        here = Executions(stack.s3.store().objects(), FlowRuns(prefect))
        id_ = long_execution(rest, here)
        for tab in ("", "state"):
            yield from of_page(browser, f"{rest.base_url}/ui/{id_}?tab={tab}", tab or "journal")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise RuntimeError("there is no Chromium here: `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def long_execution(rest: Rest, here: Executions) -> str:
    """An execution with many entries, each a checkpoint of a large state after a step."""
    made: str = ok(rest.post(PATH, json={"name": "long"}))["id"]
    text = " ".join(message["content"] for message in conversation(50))
    notes = [f"{n}: {text[n % 10_000 :][:1_000]}" for n in range(STATE_BYTES // 1_000)]
    log = here.log(made)
    head = log.attempt()
    for n in range(1, ENTRIES):
        notes[n % len(notes)] = f"{n}: {text[n % 10_000 :][:1_000]}"
        record = Record(
            order=n,
            parent=0,
            key=f"{n:064x}",
            step="fetch",
            at=whole_milliseconds(log.clock()),
            outcome=Outcome.DONE,
            called_with=f"page={n}",
            result=serialization.dump({"page": n}),
        )
        state = serialization.dump({"notes": notes})
        head = log.checkpoint(head, state, label=f"page {n}", records=[record])
    return made


def of_page(browser: Browser, url: str, name: str) -> Iterator[Result]:
    """Each time in a new context: nothing is in the browser's cache."""
    painted, size = list[float](), 0
    for _ in range(LOADS):
        with browser.new_context(extra_http_headers={"Authorization": f"Bearer {KEY}"}) as context:
            page = context.new_page()
            answer = page.goto(url)
            assert answer is not None
            assert answer.ok, answer.status
            size = len(answer.body())
            while (paint := page.evaluate(_PAINT)) is None:  # the page itself allows no waiting
                page.wait_for_timeout(10)
            painted.append(paint / 1_000)
    of = f"of {ENTRIES:,} entries, the {name}"
    yield Result(f"first_paint {of}", median(painted), "s", goal=1)
    yield Result(f"page_bytes {of}", size, "bytes", goal=200_000)
