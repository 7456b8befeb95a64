"""The pictures of README and docs show what the program prints and writes today."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from docs import make_pictures
from docs.samples import write_samples
from rich.cells import cell_len
from rich.text import Text

from bridges.stream.options import XAxis
from tests.integration.browser import ARTIFACTS

REMEDY = "run `make pictures`"


def letters(text: str) -> str:
    """A text without white space and durations."""
    joined = "".join(text.split())
    return re.sub(r"\d+\.\d\ds(?=notes|=|✓|$)", "", joined)


def test_the_terminal_shows_what_the_commands_print(tmp_path: Path) -> None:
    write_samples(tmp_path)
    picture = (make_pictures.IMAGES / "terminal.svg").read_text("utf-8")
    title, *shown = re.findall(r">([^<]*)</text>", picture)
    assert title == "bridge"
    printed = make_pictures.session(tmp_path).plain
    assert letters(html.unescape("".join(shown))) == letters(printed), REMEDY


SCREENS = (
    "bridge --help",
    "bridge export --help",
    "bridge inspect outputs",
    "bridge ls outputs --columns name,steps,loss,eval_loss:best",
    "bridge diff experiments/search/lr3e-5 experiments/search/lr9e-5",
)


@pytest.mark.parametrize("columns", [80, 120])
def test_screens_fit_the_terminal_and_are_kept_to_be_looked_at(
    columns: int, tmp_path: Path
) -> None:
    write_samples(tmp_path)
    shown = Text()
    for command in SCREENS:
        text = Text.from_ansi(make_pictures.screen(command, tmp_path, columns))
        assert max(cell_len(line) for line in text.plain.splitlines()) <= columns, command
        shown.append(f"$ {command}\n", "bold").append_text(text).append("\n")
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    picture = make_pictures.terminal_svg(shown, columns)
    (ARTIFACTS / f"docs_terminal_{columns}.svg").write_text(picture, "utf-8")


@pytest.mark.parametrize(("name", "x_axis"), [("steps", "step"), ("epochs", "epoch")])
def test_the_charts_are_those_of_the_points(name: str, x_axis: XAxis, tmp_path: Path) -> None:
    write_samples(tmp_path)
    picture = (make_pictures.IMAGES / f"{name}.svg").read_text("utf-8")
    assert picture == make_pictures.loss_chart(tmp_path, x_axis), REMEDY


@pytest.mark.parametrize("name", ["terminal.svg", "steps.svg", "epochs.svg"])
def test_no_picture_asks_another_server(name: str) -> None:
    picture = (make_pictures.IMAGES / name).read_text("utf-8")
    assert {*re.findall(r"https?://[^\"')]+", picture)} == {"http://www.w3.org/2000/svg"}


@pytest.mark.slow
def test_tensorboard_shows_the_charts_of_the_screenshot(tmp_path: Path) -> None:
    write_samples(tmp_path)
    png, titles = make_pictures.tensorboard_png(tmp_path)
    assert titles == make_pictures.TITLES, REMEDY
    kept = (make_pictures.IMAGES / "tensorboard.png").read_bytes()
    assert png[:24] == kept[:24]  # its kind and size


@pytest.mark.slow
def test_the_report_shows_the_runs_of_the_screenshot(tmp_path: Path) -> None:
    write_samples(tmp_path)
    png, text = make_pictures.report_png(tmp_path)
    for shown in ("4 runs, 43 points", "baseline/checkpoint-1200", "search/lr9e-5", "log scale"):
        assert shown in text, REMEDY
    kept = (make_pictures.IMAGES / "report.png").read_bytes()
    assert png[:24] == kept[:24]
