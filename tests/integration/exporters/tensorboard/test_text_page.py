"""The Text page of a real TensorBoard in a real browser: params as a table, and the notes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from docs.make_pictures import tensorboard
from playwright.sync_api import expect

import bridges
from tests.integration.browser import chromium_page, save
from tests.support import REPOSITORY

pytestmark = pytest.mark.slow

PARAMS = {
    "model": "org/name",
    "pattern": "*.py | **/*_test.py",
    "root": "C:\\data\\",
    "note": "`code` and __name__ and <b>",
    "layers": [1, 2, {"dim": None}],
}


def test_the_params_are_a_table_of_their_texts(tmp_path: Path) -> None:
    run = tmp_path / "example"
    shutil.copytree(REPOSITORY / "configs" / "example-run", run)
    (run / "config.json").write_text(json.dumps(PARAMS))
    logdir = tmp_path / "runs"
    assert bridges.export(run, to="tensorboard", logdir=logdir).exit_code == 0
    with tensorboard(logdir) as url, chromium_page("tensorboard_text", height=1000) as page:
        page.goto(f"{url}#text")
        table = page.locator("table").filter(has_text="pattern").last
        expect(table).to_be_visible()
        cells = table.locator("td").all_text_contents()
        shown = dict(zip(cells[::2], cells[1::2], strict=True))
        assert {name: shown[name] for name in PARAMS} == {
            **PARAMS, "layers": json.dumps(PARAMS["layers"])
        }  # fmt: skip
        expect(page.get_by_text('"written by transformers"')).to_be_visible()
        save(page, "tensorboard_text")
