"""The buttons of Prefect's two UIs, clicked in a browser, on runs of a real worker."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from browsers import V1, V2, chromium
from prefect_executions.log.entry import Kind
from rest import KEY
from world import Answer, World, eventually

pytestmark = pytest.mark.browser

Ui = type[V1] | type[V2]
UIS = [V1, V2]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    yield page
    page.close()


def counting(world: World, n: int) -> Answer:
    """An execution that counts slowly, at some number."""
    execution = world.create("counting", to=100_000, seconds=0.2)
    world.until_saved(execution, n)
    return execution


def opened(ui: Ui, page: Page, world: World, execution: Answer) -> V1 | V2:
    return ui(page, world.stack.ui_url, world.run(execution).id)


def until(world: World, execution: Answer, status: str) -> Answer:
    return world.until(execution, f"it is {status}", lambda e: e["status"] == status)


@pytest.mark.parametrize("ui", UIS)
def test_pause_and_resume_from_a_chosen_checkpoint(world: World, page: Page, ui: Ui) -> None:
    execution = counting(world, 3)
    pid = world.pid(execution)
    run_page = opened(ui, page, world, execution)

    run_page.pause()
    paused = until(world, execution, "paused")
    world.until_process_ends(pid)
    newest = [checkpoint["id"] for checkpoint in world.get(execution)["checkpoints"][:2]]
    eventually(
        lambda: [choice.split(" · ")[0] for choice in world.offered(execution)[1:3]] == newest,
        "the form offers what was saved last",  # by the process, or else by the supervisor
    )
    assert world.run(execution).state.state_details.pause_timeout is None

    page.reload()
    chosen = paused["checkpoints"][1]
    run_page.resume(chosen["id"], "the last step was wrong")
    world.until_attempt(execution, 2)
    world.until(execution, "it goes on", lambda e: e["state"]["attempts"][-1] == 2)

    rolled = [entry for entry in world.log(execution) if entry.kind is Kind.ROLLBACK]
    assert [f"ckpt_{entry.source:06d}" for entry in rolled] == [chosen["id"]]
    attempts = world.get(execution)["state"]["attempts"]
    assert attempts.index(2) == chosen_n(chosen)
    assert [entry.reason for entry in rolled] == ["the last step was wrong"]
    told = "Resumed, with the reason: the last step was wrong"
    eventually(lambda: told in world.logged(execution), "the reason stands in the log")
    world.rest.delete(world.path(execution))


def chosen_n(checkpoint: Answer) -> int:
    return int(checkpoint["label"].removeprefix("n = "))


@pytest.mark.parametrize("ui", UIS)
def test_cancel_and_retry(world: World, page: Page, ui: Ui) -> None:
    execution = counting(world, 2)
    pid = world.pid(execution)
    run_page = opened(ui, page, world, execution)

    run_page.cancel()
    until(world, execution, "terminated")
    world.until_process_ends(pid)
    world.until(execution, "it is over", lambda e: e["prefect"]["state_name"] == "Cancelled")
    left = world.get(execution)["state"]["n"]

    page.reload()
    run_page.retry()
    world.until_attempt(execution, 2)
    state = world.until(execution, "it goes on", lambda e: e["state"]["n"] > left)["state"]

    assert state["attempts"][: left + 1] == [1] * left + [2]
    world.rest.delete(world.path(execution))


@pytest.mark.parametrize("ui", UIS)
def test_delete(world: World, page: Page, ui: Ui) -> None:
    execution = counting(world, 2)
    pid = world.pid(execution)
    run_page = opened(ui, page, world, execution)

    run_page.delete()

    eventually(
        lambda: world.rest.get(world.path(execution)).status_code == 404, "the execution is gone"
    )
    world.until_process_ends(pid)
    eventually(lambda: not world.keys(execution), "its checkpoints are gone", patience=90)


@pytest.mark.parametrize("ui", UIS)
def test_the_page_of_an_execution(world: World, page: Page, ui: Ui) -> None:
    execution = world.gated(to=2)
    world.until_told(execution, "attempt 1", "n = 1")
    run_page = opened(ui, page, world, execution)

    run_page.show_artifact()

    expect(page.get_by_text("attempt 1").first).to_be_visible()
    expect(page.get_by_role("cell", name="n = 1", exact=True)).to_be_visible()
    world.rest.delete(world.path(execution))


# ------------------------------------------------------------------ the inspector


def test_the_inspector_is_walked_by_keyboard_and_on_a_phone(world: World, browser: Browser) -> None:
    execution = counting(world, 3)
    pid = world.pid(execution)
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if is_fault(message) else None)
    page.on("pageerror", lambda error: faults.append(f"{error}"))

    page.goto(f"{world.rest.base_url}/ui/{execution['id']}")
    expect(page.locator("#key")).to_be_focused()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="test")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it fits"

    focus(page, "Pause")
    page.keyboard.press("Enter")
    until(world, execution, "paused")
    world.until_process_ends(pid)
    expect(page.get_by_role("button", name="Resume")).to_be_visible()

    page.get_by_role("link", name="Checkpoints").first.click()
    page.get_by_role("button", name="Compare the chosen two").click()
    expect(page.locator(".diff .new").first).to_be_visible()
    page.go_back()
    chosen = world.get(execution)["checkpoints"][1]
    page.get_by_role("link", name=chosen["id"], exact=True).last.click()
    page.get_by_role("link", name="Roll back to here…").click()
    page.get_by_label("Reason").fill("the last one was wrong")
    page.get_by_role("button", name="Roll back, and resume").click()
    expect(page.locator(".status.running")).to_be_visible()
    world.until_attempt(execution, 2)
    rolled = [entry for entry in world.log(execution) if entry.kind is Kind.ROLLBACK]
    assert [f"ckpt_{entry.source:06d}" for entry in rolled] == [chosen["id"]]
    assert [entry.reason for entry in rolled] == ["the last one was wrong"]
    expect(page.locator(".timeline .lane")).to_have_count(2)  # the page keeps itself up to date

    page.get_by_text("More", exact=True).click()
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete it for good").click()
    expect(page.get_by_role("heading", name="Executions")).to_be_visible(timeout=30_000)
    eventually(lambda: not world.keys(execution), "its checkpoints are gone")
    page.get_by_role("button", name="Forget my key").click()
    expect(page.get_by_role("heading", name="A key, please")).to_be_visible()
    assert faults == []
    context.close()


@pytest.mark.parametrize("runs_scripts", [True, False])
def test_a_question_is_answered_in_the_inspector(
    world: World, browser: Browser, runs_scripts: bool
) -> None:
    execution = world.create("asking", rounds=1)
    until(world, execution, "paused")
    world.until_process_ends(world.pid(execution))
    context = browser.new_context(
        viewport={"width": 390, "height": 800} if runs_scripts else {"width": 1280, "height": 900},
        java_script_enabled=runs_scripts,
        color_scheme="dark",
    )
    page = context.new_page()
    page.goto(f"{world.rest.base_url}/ui/{execution['id']}")
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    expect(page.locator(".prompt")).to_have_text("Shall we go on with 0?\n")

    page.get_by_role("link", name="Answer").click()
    page.get_by_role("button", name="Send the answer").click()
    expect(page.get_by_role("alert")).to_contain_text("Give a value.")
    page.get_by_label("yes").check()
    page.get_by_role("button", name="Send the answer").click()

    world.until_attempt(execution, 2)
    world.rest.delete(world.path(execution))
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_state_is_edited_and_its_fork_compared_in_the_inspector(
    world: World, browser: Browser, width: int, scheme: Any
) -> None:
    execution = counting(world, 3)
    pid = world.pid(execution)
    world.pause(execution)
    world.until_process_ends(pid)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{world.rest.base_url}/ui/{execution['id']}")
    page.fill("#key", KEY)
    page.keyboard.press("Enter")

    def choose(name: str) -> None:
        page.get_by_text("More", exact=True).click()
        page.get_by_role("link", name=name).click()

    choose("Edit the state…")
    text = page.get_by_label("State")
    text.fill("{")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved")
    expect(text).to_have_value("{")
    text.fill('{"n": 99999, "attempts": [1]}')
    page.get_by_label("Reason").fill("it is enough")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("it is enough").last).to_be_visible()
    edited = world.get(execution)
    assert edited["state"] == {"n": 99_999, "attempts": [1]}

    choose("Fork…")
    page.get_by_label("Name", exact=False).first.fill("the other")
    page.get_by_role("button", name="Fork").click()
    expect(page.get_by_role("heading", name="the other")).to_be_visible()
    fork = world.get({"id": page.url.rpartition("/")[2]})
    assert fork["forked_from"]["execution_id"] == execution["id"]
    world.until(fork, "it completes", lambda e: e["status"] == "completed")
    choose("Compare with its origin")
    expect(page.get_by_role("link", name="the other").first).to_be_visible()

    world.rest.delete(world.path(fork))
    world.rest.delete(world.path(execution))
    context.close()


def focus(page: Page, name: str) -> None:
    """Press Tab until a button has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == name:
            return
    raise AssertionError(f"{name} is not reached by the keyboard")


def is_fault(message: ConsoleMessage) -> bool:
    """Whether a message of the console is a fault; a missing key is none."""
    return message.type == "error" and "401" not in message.text
