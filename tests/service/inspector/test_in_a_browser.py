"""The inspector in a real browser: accessible on a desk and on a phone, and what its scripts do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from browsers import chromium
from office import Office
from prefect_executions.approvals import ToolApproval
from prefect_executions.executions.creation import Creation
from prefect_executions.log.journal import Outcome, Record
from rest import KEY
from serving import serving

pytestmark = pytest.mark.browser

REQUESTS = 20  # of a page, its styles and scripts
BYTES = 300_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def url(office: Office) -> Iterator[str]:
    with serving(office.app) as url:
        yield f"{url}/ui"


@pytest.fixture
def id_(office: Office) -> str:
    """An execution that asks, with a crash, a roll-back and steps behind it."""
    id_ = office.create(state={"n": 0})
    log = office.executions.log(id_)
    head = log.record(log.head(), [step(log, 1), step(log, 2)])
    head = log.checkpoint(head, b'{"n": 1, "deep": {"deeper": [1, 2]}}', label="first")
    good = head.entry.seq
    head = log.checkpoint(head, b'{"n": 2, "deep": {"deeper": [1]}}', label="second")
    log.crash(head, answers="it", dead_seconds=0.1, reason="SIGKILL")
    log.rollback(good, by="ada", reason="it was wrong")
    head = log.record(log.attempt(version="1f2e3d"), [step(log, 3)])
    log.checkpoint(head, b'{"n": 3, "deep": {"deeper": [1, 2, 3]}}', by="ada", reason="mended")
    office.ask(id_, ToolApproval.model_json_schema(), "May **it** go on?")
    return id_


def step(log: Any, order: int) -> Record:
    return Record(
        order=order,
        parent=0,
        key=f"{order}",
        step="charge",
        at=log.head().entry.at,
        outcome=Outcome.DONE,
        undo=True,
        result=b'"order"',
    )


@contextmanager
def inside(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page of a browser that has sent the key."""
    context: BrowserContext = browser.new_context(**options)
    page = context.new_page()
    page.goto(f"{url}/")
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Forget my key")).to_be_visible()
    yield page
    context.close()


def paths(id_: str) -> list[str]:
    one = f"/{id_}"
    return [
        "/",
        one,
        f"{one}?kind=step",
        f"{one}?tab=state",
        f"{one}?tab=state&find=deep",
        f"{one}?tab=checkpoints",
        f"{one}?tab=result",
        f"{one}?tab=parameters",
        f"{one}?tab=config",
        f"{one}?tab=versions",
        f"{one}/ckpt_000003",
        f"{one}/ckpt_000003/roll-back",
        f"{one}/ckpt_999999",
        f"{one}/diff",
        f"{one}/fork",
        f"{one}/edit",
        f"{one}/delete",
        f"/compare?ids={id_}",
    ]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_is_accessible_and_fits(
    browser: Browser, url: str, id_: str, office: Office, width: int, scheme: Any
) -> None:
    fork, _ = Creation(office.executions).fork(id_, name="another way", state={"n": 9})
    office.executions.checkpoint(fork.id, state={"n": 5}, label="first")
    viewport: Any = {"width": width, "height": 900}
    found: list[Any] = []
    with inside(browser, url, viewport=viewport, color_scheme=scheme) as page:
        compared = [f"/compare?ids={id_},{each}" for each in (fork.id, "exec_unknown")]
        for path in [*paths(id_), *compared]:
            page.goto(f"{url}{path}")
            violations = Axe().run(page).response["violations"]
            found += [(path, each["id"], each["nodes"][0]["target"]) for each in violations]
            if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
                found.append((path, "it is wider than the window"))

    assert found == []


def test_a_page_takes_few_requests_and_bytes(browser: Browser, url: str, id_: str) -> None:
    with inside(browser, url) as page:
        page.goto(f"{url}/{id_}", wait_until="load")
        bodies: list[int] = page.evaluate(
            "['navigation', 'resource'].flatMap(type => performance.getEntriesByType(type))"
            ".map(entry => entry.decodedBodySize)"
        )

        assert 3 <= len(bodies) <= REQUESTS
        assert 0 < sum(bodies) <= BYTES


def test_what_is_unfolded_stays_so_while_the_page_follows(
    browser: Browser, url: str, id_: str, office: Office
) -> None:
    with inside(browser, url) as page:
        page.goto(f"{url}/{id_}")
        line = page.locator(".journal details", has_text="charge").first
        line.locator("summary").click()
        page.get_by_text("Yes", exact=True).click()

        office.executions.checkpoint(id_, state={"n": 4}, label="later")

        expect(page.get_by_role("link", name="later", exact=True)).to_be_visible()
        assert page.locator(".journal details[open]").count() == 1
        expect(page.get_by_label("Yes")).to_be_checked()


def test_menu_timeline_and_tree_are_used_by_keyboard(browser: Browser, url: str, id_: str) -> None:
    with inside(browser, url, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"{url}/{id_}?tab=state")
        page.get_by_text("More", exact=True).press("Enter")
        expect(page.get_by_role("link", name="Fork…")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="Fork…")).to_be_hidden()

        marks = page.locator(".timeline a")
        marks.first.focus()
        expect(page.locator(".pointed")).to_contain_text("first")
        page.keyboard.press("ArrowRight")
        expect(page.locator(".pointed")).to_contain_text("second")

        page.locator("summary", has_text="deeper").last.focus()
        page.keyboard.press("c")
        expect(page.get_by_role("button", name="Copied")).to_be_attached()
        assert page.evaluate("navigator.clipboard.readText()") == "deep.deeper"
