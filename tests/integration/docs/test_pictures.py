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


SCREENS = (  # in this order, in one folder
    "bridge --help",
    "bridge --version",
    "bridge export --help",
    "bridge migrate --help",
    "bridge targets",
    "bridge inspect outputs",
    "bridge inspect outputs/grpo",
    "bridge ls outputs",
    "bridge ls outputs --columns name,steps,loss,eval_loss:best",
    "bridge diff experiments/search/lr3e-5 experiments/search/lr9e-5",
    "bridge explain epoch-restarts underflow-to-zero",
    "bridge export outputs/resumed --to tensorboard --dry-run",
    "bridge export outputs --to tensorboard,wandb",
    "bridge export outputs --to tensorboard,wandb -v",
    "bridge verify outputs --to tensorboard",
    "bridge init outputs experiments",
    "bridge migrate migration.yaml --dry-run",
    "bridge migrate migration.yaml --html report.html",
    "bridge report outputs -o charts.html",
)
ONE_LINE = ("bridge export", "bridge verify")  # a run, whose path a terminal wraps


@pytest.mark.parametrize("columns", [80, 120])
def test_screens_fit_the_terminal_and_are_kept_to_be_looked_at(
    columns: int, tmp_path: Path
) -> None:
    write_samples(tmp_path)
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for number, command in enumerate(SCREENS):
        text = Text.from_ansi(make_pictures.screen(command, tmp_path, columns))
        lines = text.plain.splitlines()
        if command.startswith(ONE_LINE) and not command.endswith("--help"):
            lines = [line for line in lines if line.startswith("    ")]
        long = [line for line in lines if cell_len(line) > columns]
        # only a line with one of these paths may be longer
        wide = [line for line in long if "events.out" not in line and str(tmp_path) not in line]
        assert wide == [], command
        shown = Text(f"$ {command}\n", "bold").append_text(text)
        name = re.sub(r"\W+", "_", command)
        picture = make_pictures.terminal_svg(shown, columns)
        (ARTIFACTS / f"screen_{columns}_{number:02}_{name}.svg").write_text(picture, "utf-8")


def test_names_of_metrics_are_whole_in_a_narrow_terminal(tmp_path: Path) -> None:
    write_samples(tmp_path)
    page = Text.from_ansi(make_pictures.screen("bridge inspect outputs/grpo", tmp_path, 80)).plain
    assert re.search(r"^eval_completions/max_terminated_length +\S+ +\S+ +\S+ \S+ *$", page, re.M)
    table = Text.from_ansi(make_pictures.screen("bridge ls outputs", tmp_path, 80)).plain
    assert re.search(r"^name +rows +steps ", table, re.M)
    assert "hidden to fit: " in table
    assert ", params" in table


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
