"""A page opened in an installed Chromium; `said` on it is all that the browser complained about or asked for."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def installed_browser() -> Iterator[Browser]:
    """Skips where there is none, but not in CI."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = f"none of {', '.join(BROWSERS)} is installed"
        pytest.fail(f"{reason}, and CI must look at the page") if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def opener(browser: Browser, file: Path) -> Callable[..., Page]:
    """Opens a file as a page."""

    def open_(*, width: int = 1200, height: int = 900, scheme: str = "light", scripts: bool = True) -> Page:
        page = listened_to(
            browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=scripts
            )
        )
        page.goto(file.as_uri())
        assert page.said.pop(0) == f"request: {file.as_uri()}"
        return page

    return open_


def listened_to(page: Page) -> Page:
    """The page, with `said`."""
    page.said = []
    page.on("console", lambda message: page.said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: page.said.append(f"error: {error}"))
    page.on("request", lambda request: page.said.append(f"request: {request.url}"))
    return page
