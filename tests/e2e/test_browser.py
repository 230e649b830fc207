"""The buttons of Prefect's two UIs, clicked in a browser, on runs of a real worker."""

from collections.abc import Iterator

import pytest
from browsers import V1, V2, RunPage, chromium
from playwright.sync_api import Browser, Page, expect
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from world import Answer, World, eventually

from prefect_executions.entry import Kind

pytestmark = pytest.mark.browser

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
    """One that counts slowly, and has come to some number."""
    execution = world.create("counting", to=100_000, seconds=0.2)
    world.until_saved(execution, n)
    return execution


def opened(ui: type[V1] | type[V2], page: Page, world: World, execution: Answer) -> RunPage:
    return ui(page, world.stack.ui_url, world.run(execution).id)


def until(world: World, execution: Answer, status: str) -> Answer:
    return world.until(execution, f"it is {status}", lambda e: e["status"] == status)


@pytest.mark.parametrize("ui", UIS)
def test_pause_and_resume_from_a_chosen_checkpoint(
    world: World, page: Page, ui: type[V1] | type[V2]
) -> None:
    execution = counting(world, 3)
    pid = world.pid(execution)
    run_page = opened(ui, page, world, execution)

    run_page.pause()
    paused = until(world, execution, "paused")
    world.until_process_ends(pid)
    eventually(lambda: len(world.offered(execution)) > 2, "the form is there")
    assert world.run(execution).state.state_details.pause_timeout is None
    assert [choice.split(" · ")[0] for choice in world.offered(execution)[1:3]] == [
        checkpoint["id"] for checkpoint in world.get(execution)["checkpoints"][:2]
    ]

    page.reload()
    chosen = paused["checkpoints"][1]
    run_page.resume(chosen["id"], "the last step was wrong")
    world.until_attempt(execution, 2)
    world.until(execution, "it goes on", lambda e: e["state"]["attempts"][-1] == 2)

    rolled = [entry for entry in world.log(execution) if entry.kind is Kind.ROLLBACK]
    assert [f"ckpt_{entry.source:06d}" for entry in rolled] == [chosen["id"]]
    attempts = world.get(execution)["state"]["attempts"]
    assert attempts.index(2) == chosen_n(chosen)
    told = "Resumed with the note: the last step was wrong"
    eventually(lambda: told in logged(world, execution), "the note stands in the log")
    world.rest.delete(world.path(execution))


def logged(world: World, execution: Answer) -> list[str]:
    run_id = world.run(execution).id
    filter_ = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    return [log.message for log in world.prefect.read_logs(filter_, limit=200)]


def chosen_n(checkpoint: Answer) -> int:
    return int(checkpoint["label"].removeprefix("n = "))


@pytest.mark.parametrize("ui", UIS)
def test_cancel_and_retry(world: World, page: Page, ui: type[V1] | type[V2]) -> None:
    execution = counting(world, 2)
    pid = world.pid(execution)
    run_page = opened(ui, page, world, execution)

    run_page.cancel()
    until(world, execution, "terminated")
    world.until_process_ends(pid)
    left = world.get(execution)["state"]["n"]

    page.reload()
    run_page.retry()
    world.until_attempt(execution, 2)
    state = world.until(execution, "it goes on", lambda e: e["state"]["n"] > left)["state"]

    assert state["attempts"][: left + 1] == [1] * left + [2]
    world.rest.delete(world.path(execution))


@pytest.mark.parametrize("ui", UIS)
def test_delete(world: World, page: Page, ui: type[V1] | type[V2]) -> None:
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
def test_the_page_of_an_execution(world: World, page: Page, ui: type[V1] | type[V2]) -> None:
    execution = counting(world, 2)
    run_page = opened(ui, page, world, execution)
    page.wait_for_timeout(2_000)  # the first page is written a second after the first attempt
    page.reload()

    run_page.show_artifact()

    expect(page.get_by_text("attempt 1").first).to_be_visible()
    expect(page.get_by_role("cell", name="n = 1", exact=True)).to_be_visible()
    world.rest.delete(world.path(execution))
