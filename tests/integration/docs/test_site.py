"""The documentation as a site: it builds without warnings, and a browser shows each page well."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.integration.browser import chromium_page, save
from tests.support import REPOSITORY

pytestmark = pytest.mark.slow
WIDE, NARROW = 1280, 600


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mkdocs")), "build", "--strict", "-d", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site on a server of this machine."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def pages_of(site: Path) -> list[str]:
    """The addresses of all pages, relative to that of the site."""
    found = (path.parent.relative_to(site).as_posix() for path in site.rglob("index.html"))
    return sorted("" if page == "." else f"{page}/" for page in found)


def test_the_python_reference_has_every_public_function(site: Path) -> None:
    page = (site / "reference" / "python" / "index.html").read_text("utf-8")
    for name in ("api.read", "api.export", "api.follow", "api.verify", "migration.migrate.migrate"):
        assert f'id="bridges.{name}"' in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_fits_a_small_screen_and_asks_no_other_server(
    scheme: str, site: Path, address: str
) -> None:
    pages = pages_of(site)
    assert len(pages) >= 20
    asked: set[str] = set()
    problems: dict[str, object] = {}
    with chromium_page("docs", height=1000, color_scheme=scheme) as page:
        page.on("request", lambda request: asked.add(request.url))
        for name in pages:
            page.set_viewport_size({"width": WIDE, "height": 1000})
            page.goto(address + name)
            found = Axe().run(page).response["violations"]
            if found:
                problems[name] = [
                    (each["id"], [node["html"][:200] for node in each["nodes"][:3]])
                    for each in found
                ]
            save(page, f"docs_{name.replace('/', '_')}{scheme}_{WIDE}")
            page.set_viewport_size({"width": NARROW, "height": 1000})
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > NARROW:
                problems[f"{name} at {NARROW}"] = width
            save(page, f"docs_{name.replace('/', '_')}{scheme}_{NARROW}")
    assert problems == {}
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("2000-01-01", "faq/#why-2000-01-01"),
        ("loss 0", "faq/#why-is-my-loss-0"),
        ("which step W&B shows", "guide/steps/#which-step-wb-shows"),
        ("clock-synthetic", "reference/findings/#clock-synthetic"),
        ("zero bytes", "faq/#my-file-is-cut-off-or-has-zero-bytes"),
        ("rename a run", "faq/#how-do-i-rename-a-run"),
    ],
)
def test_the_search_finds_the_answer(words: str, answer: str, address: str) -> None:
    with chromium_page("docs_search", height=1000) as page:
        page.goto(address)
        page.keyboard.press("/")
        page.keyboard.type(words)
        place, _, heading = answer.partition("#")
        found = f'.md-search-result a[href*="/{place}"][href$="#{heading}"]'
        page.locator(found).first.wait_for(state="attached")
