"""A real browser, and the folder `artifacts` (or $BRIDGES_ARTIFACTS) for what it showed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from tests.bounds import HANGS
from tests.servers import missing
from tests.support import REPOSITORY

ARTIFACTS = Path(os.environ.get("BRIDGES_ARTIFACTS") or REPOSITORY / "artifacts")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
expect.set_options(timeout=HANGS * 1000)


@contextlib.contextmanager
def chromium_page(name: str, height: int = 2150, **options: Any) -> Iterator[Page]:
    """A page of a headless Chromium; it fails the test when a script on it has failed.

    `name` is that of the screenshot of a failure; `options` are those of a playwright page.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing("a Chromium browser", "apt-get install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *sandbox])
        page = browser.new_page(viewport={"width": 1500, "height": height}, **options)
        page.set_default_timeout(HANGS * 1000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        try:
            yield page
        except BaseException:
            print("errors of the page:", errors)
            save(page, f"{name}_failure")
            raise
        browser.close()
    assert errors == []


def save(page: Page, name: str) -> None:
    """Keep what the page shows now."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png")
