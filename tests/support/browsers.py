"""Prefect's two UIs in a real browser: what people click and see."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from uuid import UUID

import pytest
from playwright.sync_api import (
    Browser,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)
from playwright.sync_api import TimeoutError as PlaywrightTimeout

PATIENCE = 30_000  # milliseconds


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium. Without one, the test is skipped."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no Chromium here: `apt-get install chromium`")
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class _Ui:
    """The page of a flow run, and what people do on it.

    An action is repeated when Prefect's database was busy (503), as people would, and fails with
    Prefect's response when it was refused.

    Args:
        page: The browser's page.
        url: The URL of Prefect.
        run_id: The id of the flow run.
    """

    path: str  # of a run's page

    def __init__(self, page: Page, url: str, run_id: UUID) -> None:
        self.page = page
        self._run_id = run_id
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}{self.path}/{run_id}")

    def pause(self) -> None:
        self._act(self._press_pause)

    def resume(self, checkpoint: str, reason: str) -> None:
        self._act(lambda: self._press_resume(checkpoint, reason))

    def cancel(self) -> None:
        self._act(self._press_cancel)

    def retry(self) -> None:
        self._act(self._press_retry)

    def delete(self) -> None:
        self._act(self._press_delete)

    def _act(self, press: Callable[[], None]) -> None:
        for _ in range(5):
            with self.page.expect_response(lambda answer: self._is_action(answer.request)) as sent:
                press()
            answer = sent.value
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            self.page.reload()
        assert answer.ok, answer.text()
        if answer.status != HTTPStatus.NO_CONTENT:
            assert answer.json()["status"] == "ACCEPT", answer.text()

    def _is_action(self, request: Request) -> bool:
        run = f"/flow_runs/{self._run_id}"
        return request.method == "DELETE" or (
            request.method == "POST" and request.url.endswith((f"{run}/set_state", f"{run}/resume"))
        )

    def _press_pause(self) -> None:
        raise NotImplementedError

    def _press_resume(self, checkpoint: str, reason: str) -> None:
        raise NotImplementedError

    def _press_cancel(self) -> None:
        raise NotImplementedError

    def _press_retry(self) -> None:
        raise NotImplementedError

    def _press_delete(self) -> None:
        raise NotImplementedError


class V1(_Ui):
    """The UI that Prefect's log links to: its actions are buttons."""

    path = "/runs/flow-run"

    def _press(self, name: str) -> Locator:
        self.page.get_by_role("button", name=name, exact=True).first.click()
        return self._dialog()

    def _dialog(self) -> Locator:
        dialog = self.page.get_by_role("dialog")
        dialog.wait_for()
        return dialog

    def _press_pause(self) -> None:
        self._press("Suspend").get_by_role("button", name="Submit").click()

    def _press_resume(self, checkpoint: str, reason: str) -> None:
        dialog = self._press("Resume")
        choice = dialog.get_by_role("button", name="latest")
        expect(choice).to_be_visible()
        choice.press("ArrowDown")
        self.page.locator(".p-select-option__text", has_text=checkpoint).click()
        field = dialog.locator("input[type=text], textarea").last
        field.fill(reason)
        expect(field).to_have_value(reason)
        dialog.get_by_role("button", name="Submit").click()

    def _press_cancel(self) -> None:
        self._press("Cancel").get_by_role("button", name="Confirm").click()

    def _press_retry(self) -> None:
        self._press("Retry").get_by_role("button", name=re.compile("Retry|Confirm")).click()

    def _press_delete(self) -> None:
        self.page.locator(".p-icon-button-menu").first.click()
        self.page.get_by_text("Delete", exact=True).last.click()
        self._dialog().get_by_role("button", name="Delete").click()

    def show_artifact(self) -> None:
        self.page.get_by_text("Artifacts", exact=True).click()
        self.page.locator("a[href*='/artifacts/artifact/']").first.click()


class V2(_Ui):
    """The UI at `/`: its actions are in a menu."""

    path = "/v2/runs/flow-run"

    def _choose(self, item: str) -> Locator:
        menu = self.page.locator("button[aria-haspopup=menu]").first
        entry = self.page.get_by_role("menuitem", name=item, exact=True)
        for _ in range(10):  # its items follow the state
            menu.click()
            try:
                entry.click(timeout=3_000)
                break
            except PlaywrightTimeout:
                self.page.keyboard.press("Escape")
            self.page.reload()
            menu.wait_for()
        dialog = self.page.get_by_role("dialog").or_(self.page.get_by_role("alertdialog"))
        dialog.wait_for()
        return dialog

    def _press_pause(self) -> None:
        self._choose("Pause").get_by_role("button", name="Pause Flow Run").click()

    def _press_resume(self, checkpoint: str, reason: str) -> None:
        dialog = self._choose("Resume")
        dialog.get_by_role("combobox").or_(
            dialog.locator("button", has_text="latest")
        ).first.click()
        self.page.get_by_role("option", name=re.compile(checkpoint)).click()
        expect(dialog.locator("button", has_text=checkpoint)).to_be_visible()
        field = dialog.locator("textarea")
        field.fill(reason)
        expect(field).to_have_value(reason)
        dialog.get_by_role("button", name="Resume").click()

    def _press_cancel(self) -> None:
        self._choose("Cancel").get_by_role("button", name="Cancel Flow Run").click()

    def _press_retry(self) -> None:
        self._choose("Retry").get_by_role("button", name="Retry").click()

    def _press_delete(self) -> None:
        self._choose("Delete").get_by_role("button", name="Delete").click()

    def show_artifact(self) -> None:
        self.page.get_by_role("tab", name="Artifacts").click()
        link = self.page.locator(
            "a[href*='/artifacts/artifact/'], a[href*='/artifacts/key/']"
        ).first
        if "/artifacts/key/" in (link.get_attribute("href") or ""):
            pytest.skip("this Prefect's UI shows the artifacts of a key, of all runs together")
        link.click()
