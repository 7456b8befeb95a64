"""The pictures of README and docs show what the program prints and writes today."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from docs import make_pictures
from docs.samples import write_samples

from bridges.stream.options import XAxis

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
