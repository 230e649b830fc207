"""The pictures in the docs: `make screenshots` takes them; the tests check that it can."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browsers import V2, chromium
from rest import KEY
from world import World, eventually

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def test_screenshots(
    world: World, browser: Browser, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    directory = Path(request.config.getoption("--screenshots") or tmp_path)
    directory.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    execution = world.create("counting", to=100_000, seconds=1)
    world.until_saved(execution, 12)

    def shoot(name: str, shown: Page = page) -> None:
        shown.wait_for_timeout(1_000)  # animations come to an end
        shown.screenshot(path=directory / f"{name}.png")
        assert (directory / f"{name}.png").stat().st_size > 10_000

    run_page = V2(page, world.stack.ui_url, world.run(execution).id)
    run_page.show_artifact()
    expect(page.get_by_role("cell", name="n = 1", exact=True)).to_be_visible()
    shoot("run-page")
    world.ok(world.rest.post(world.path(execution, "/pause"), json={"reason": "to look"}), 202)
    world.until_process_ends(world.pid(execution))
    eventually(lambda: len(world.offered(execution)) > 12, "the form is there")
    page.goto(f"{world.stack.ui_url}/v2/runs/flow-run/{world.run(execution).id}")
    dialog = run_page._choose("Resume")
    dialog.locator("button", has_text="latest").click()
    shoot("resume-form")
    page.goto(f"{world.stack.ui_url}/v2/blocks/catalog/execution-store/create")
    expect(page.get_by_text("Bucket").first).to_be_visible()
    shoot("block")
    chosen = world.get(execution)["checkpoints"][5]["id"]
    world.resume(execution, chosen)
    world.until_attempt(execution, 2)
    page.goto(f"{world.rest.base_url}/ui/{execution['id']}")
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    expect(page.locator(".timeline .lane")).to_have_count(2)
    shoot("inspector")
    world.rest.delete(world.path(execution))
    page.close()
