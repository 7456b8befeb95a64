"""A real `tensorboard` process, default loader and Python loader, shows every exported point.

The runs are exported by the real `bridge` command while TensorBoard is running on the directory.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import shlex
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.bounds import HANGS, until
from tests.integration.exporters.tensorboard.support import (
    ENVIRONMENT,
    Point,
    Row,
    bridge,
    last_of_steps,
    read_raw,
    show,
    training_rows,
    write_state,
)
from tests.support import DATA

pytestmark = pytest.mark.slow

LOADERS = {
    "default": [],
    "python": ["--load_fast=false"],
    "python, every file": ["--load_fast=false", "--reload_multifile=true"],
}
FAST_NOTE = "Using experimental fast data loading logic"


@dataclass
class Server:
    """A running TensorBoard."""

    url: str
    logdir: Path
    sources: Path
    is_fast: bool

    def get(self, route: str, **query: str) -> Any:
        """The JSON document of a data route."""
        url = f"{self.url}data/{route}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=HANGS) as response:
            return json.load(response)

    def post(self, route: str, body: dict[str, Any]) -> Any:
        """The JSON document that a data route answers to a JSON body."""
        request = urllib.request.Request(
            f"{self.url}data/{route}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=HANGS) as response:
            return json.load(response)

    def tags(self, plugin: str, run: str) -> list[str]:
        return sorted(self.get(f"plugin/{plugin}/tags").get(run, []))

    def scalars(self, run: str) -> dict[str, list[Point]]:
        """All points of a run by tag."""
        return {
            tag: [
                (step, show(float(value)))
                for _, step, value in self.get("plugin/scalars/scalars", run=run, tag=tag)
            ]
            for tag in self.tags("scalars", run)
        }

    def texts(self, run: str) -> dict[str, list[tuple[int, str]]]:
        """All texts of a run by tag, without the markup."""
        return {
            tag: [
                (entry["step"], html.unescape(re.sub(r"<[^>]*>", "", entry["text"])).strip())
                for entry in self.get("plugin/text/text", run=run, tag=tag)
            ]
            for tag in self.tags("text", run)
        }

    def holds(self, run: str, want: dict[str, list[Point]]) -> bool:
        """Whether exactly these points are shown; the fast loader shows one of a step."""
        have = self.scalars(run)
        if self.is_fast:
            want = {tag: last_of_steps(points) for tag, points in want.items()}
        return {tag: sorted(p) for tag, p in have.items()} == {
            tag: sorted(p) for tag, p in want.items()
        }

    def export(self, name: str, rows: list[Row], *options: str) -> dict[str, int]:
        """Export rows by the command line; the counts of its findings by code."""
        state = write_state(self.sources / f"{name}.json", rows)
        return self.export_file(name, state, *options)

    def export_file(self, name: str, state: Path, *options: str) -> dict[str, int]:
        target = ("--to", "tensorboard", "--logdir", self.logdir, "--run-name", name)
        (run,) = json.loads(bridge("export", state, *target, "--json", *options))["runs"]
        assert run["verified"]
        return {finding["code"]: finding["count"] for finding in run["findings"]}

    def shows(self, name: str) -> None:
        """Wait until the server shows all that the event files of a run hold."""
        want, _ = read_raw(self.logdir / name)
        until(lambda: self.holds(name, want))


@contextlib.contextmanager
def tensorboard(logdir: Path, sources: Path, *options: str) -> Iterator[Server]:
    """A TensorBoard on a free port that looks for news every second."""
    log = sources / "tensorboard.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}", "--port=0",
             "--reload_interval=1", *options],
            stderr=errors,
            stdout=errors,
            env=ENVIRONMENT,
        )  # fmt: skip
    try:
        until(lambda: re.search(r"at (http://\S+)", log.read_text()), process)
        url = re.search(r"at (http://\S+)", log.read_text())
        assert url is not None
        yield Server(url[1], logdir, sources, FAST_NOTE in log.read_text())
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(HANGS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.parametrize("loader", LOADERS)
def test_the_printed_command_shows_every_point(loader: str, tmp_path: Path) -> None:
    logdir = tmp_path / "my logs"
    state = write_state(tmp_path / "long.json", training_rows(3000))
    printed = bridge("export", state, "--to", "tensorboard", "--logdir", logdir)
    command = shlex.split(printed.splitlines()[-1].removeprefix("View: "))
    assert command[:3] == ["tensorboard", "--logdir", str(logdir)]
    with tensorboard(logdir, tmp_path, *command[3:], *LOADERS[loader]) as running:
        running.shows("long")
        assert len(running.scalars("long")["train/loss"]) == 3000


@pytest.fixture(scope="module", params=LOADERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("server")
    (root / "logs").mkdir()
    options = LOADERS[request.param]
    with tensorboard(root / "logs", root, *options) as running:
        assert running.is_fast == (request.param == "default")
        yield running


def losses(rows: list[Row]) -> list[Point]:
    return [(row["step"], show(row["loss"])) for row in rows if "loss" in row]


def test_the_seed_is_shown_whole(server: Server) -> None:
    server.export_file("seed", DATA / "seed.txt")
    server.shows("seed")
    shown = server.scalars("seed")
    assert [len(shown[tag]) for tag in ("train/loss", "train/learning_rate")] == [100, 100]
    assert [step for step, _ in shown["eval/loss"]] == [9041]


def test_odd_values_and_texts_are_shown(server: Server) -> None:
    server.export_file("odd", DATA / "groundtruth" / "odd_values" / "trainer_state.json")
    server.shows("odd")
    texts = server.texts("odd")
    assert texts["train/completions/text_summary"] == [(1, "hello world")]
    assert texts["eval/verdict/text_summary"] == [(3, "good"), (6, "good")]
    assert [step for step, _ in texts["eval/empty/text_summary"]] == [3, 6]
    assert '"bridges": 1' in texts["bridges/provenance/text_summary"][0][1]
    assert "max_steps" in texts["bridges/params/text_summary"][0][1]


def test_nan_and_infinity_are_shown(server: Server) -> None:
    server.export_file("nan", DATA / "groundtruth" / "nan_loss" / "trainer_state.json")
    server.shows("nan")
    assert "nan" in {value for _, value in server.scalars("nan")["train/loss"]}


def test_the_settings_are_listed(server: Server) -> None:
    path = DATA / "groundtruth" / "hp_search_unnamed"
    server.export_file("trial 0", path / "trial_0" / "trainer_state.json")
    server.export_file("trial 1", path / "trainer_state.json")
    for name in ("trial 0", "trial 1"):
        server.shows(name)

    def session_rates() -> dict[str, float]:
        experiment = server.post("plugin/hparams/experiment", {"experimentName": ""})
        body = {
            "experimentName": "",
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS"],
            "colParams": [{"hparam": info["name"]} for info in experiment["hparamInfos"]],
            "startIndex": 0,
            "sliceSize": 100,
        }
        listed = server.post("plugin/hparams/session_groups", body)["sessionGroups"]
        return {
            session["name"]: group["hparams"]["learning_rate"]
            for group in listed
            for session in group["sessions"]
            if "learning_rate" in group["hparams"]
        }

    rates = {}
    for name, state in (
        ("trial 0", "trial_0/trainer_state.json"),
        ("trial 1", "trainer_state.json"),
    ):
        rates[name] = json.loads((path / state).read_text())["trial_params"]["learning_rate"]
    until(lambda: session_rates() == rates)


def test_a_run_that_grows_is_shown_as_it_grows(server: Server) -> None:
    rows = training_rows(300)
    for cut in (50, 51, 200, len(rows)):
        server.export("growing", rows[:cut])
        server.shows("growing")
    assert server.scalars("growing")["train/loss"] == losses(rows)


def test_a_run_that_grows_at_one_step_is_shown(server: Server) -> None:
    """The rows of one step (train, eval, summary) come in three exports."""
    rows: list[Row] = [
        *training_rows(9),
        {"loss": 1.0, "epoch": 0.5, "step": 10},
        {"eval_loss": 1.5, "epoch": 0.5, "step": 10},
        {"train_loss": 1.2, "train_runtime": 5.0, "total_flos": 1.0, "epoch": 0.5, "step": 10},
    ]
    for cut in (10, 11, 12):
        server.export("one step", rows[:cut])
        server.shows("one step")


GOES_BACK: list[Row] = [
    {"loss": float(n), "epoch": step / 10, "step": step, **({"note": f"row {n}"} if n > 6 else {})}
    for n, step in enumerate([1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 3, 4, 9, 10])
]
FALLING_EPOCH: list[Row] = [
    {"loss": float(n), "epoch": epoch, "step": n + 1}
    for n, epoch in enumerate([0.1, 0.2, 0.3, 0.4, 0.25, 0.35, 0.45, 0.5])
]


def test_steps_that_go_back_are_all_shown(server: Server) -> None:
    server.export("goes back", GOES_BACK)
    server.shows("goes back")
    steps = {step for step, _ in server.scalars("goes back")["train/loss"]}
    assert steps == {row["step"] for row in GOES_BACK}
    notes = server.texts("goes back")["train/note/text_summary"]
    assert {step for step, _ in notes} == {row["step"] for row in GOES_BACK if "note" in row}


def test_a_falling_epoch_as_x_axis_is_shown(server: Server) -> None:
    server.export("falling", FALLING_EPOCH, "--x-axis", "epoch")
    server.shows("falling")
    steps = {step for step, _ in server.scalars("falling")["train/loss"]}
    assert steps == {round(row["epoch"] * 1000) for row in FALLING_EPOCH}


GOING_BACK_LATER: dict[str, tuple[list[Row], int, list[str]]] = {
    **{f"steps {cut}": (GOES_BACK, cut, []) for cut in (8, 10, 12)},
    **{f"epoch {cut}": (FALLING_EPOCH, cut, ["--x-axis", "epoch"]) for cut in (4, 5, 6)},
}


@pytest.mark.parametrize("case", GOING_BACK_LATER)
def test_a_later_export_that_goes_back_is_all_shown(case: str, server: Server) -> None:
    """New rows that go back behind earlier steps come with the whole run, in order."""
    rows, cut, options = GOING_BACK_LATER[case]
    rows = [*rows, {"loss": 99.0, "epoch": 9.0, "step": 90}]
    rows = [{**row, "loss": row["loss"] + 100 * cut} for row in rows]  # each case its own run
    for stop in (cut, len(rows) - 1, len(rows)):
        server.export(case, rows[:stop], *options)
        clean = server.sources / f"clean {case} {stop}"
        target = ("--to", "tensorboard", "--logdir", clean, "--run-name", case)
        bridge("export", server.sources / f"{case}.json", *target, *options)
        want, _ = read_raw(clean / case)
        until(partial(server.holds, case, want))
