"""`bridge ls`: one line a run, as a table that fits the terminal, JSON or CSV."""

from __future__ import annotations

import csv
import gc
import io
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest
from rich.cells import cell_len

from bridges.cli.main import run as bridge
from bridges.cli.run_table import Table
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.read_runs import read_runs
from bridges.sources.trainer import run_directory
from bridges.stream.model import Run
from bridges.views.listing import Listing
from tests.support import state

RATES = (1e-3, 1e-5, 1e-4)
TITLES = "name   rows  steps  loss  loss:best  eval_loss  eval_loss:best  eval_f1  eval_f1:best"


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs of a sweep, the last of which has no evaluation."""
    monkeypatch.chdir(tmp_path)
    for number, rate in enumerate(RATES, 1):
        rows: list[dict[str, Any]] = [
            {"loss": 2.0 / number, "step": 500, "epoch": 1.0},
            {"loss": 3.0 / number, "step": 1000, "epoch": 2.0},
        ]
        if number < 3:
            rows.append({"eval_loss": 1.5, "eval_f1": number / 4, "step": 1000, "epoch": 2.0})
        folder = tmp_path / "out" / f"run-{number}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_bytes(state(rows, global_step=1000))
        (folder / "config.json").write_text(json.dumps({"hidden_size": 8, "lr_own": rate}))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert bridge(["ls", *arguments]) == code
    out: str = capsys.readouterr().out
    return out


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(printed(capsys, *arguments, "--csv")))]


def test_a_line_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    titles, *lines = printed(capsys, "out").splitlines()
    assert titles == TITLES
    assert [line.split() for line in lines] == [
        ["run-1", "3", "1,000", "3", "2", "1.5", "1.5", "0.25", "0.25"],
        ["run-2", "3", "1,000", "1.5", "1", "1.5", "1.5", "0.5", "0.5"],
        ["run-3", "2", "1,000", "1", "0.6667"],
    ]


def test_params_in_a_pipe_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "out", "--columns", "name,params").splitlines() == [
        "name   params",
        "run-1  lr_own=0.001",
        "run-2  lr_own=1e-05",
        "run-3  lr_own=0.0001",
    ]


def test_sorted_by_any_column_with_runs_that_lack_it_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for column, order in {
        "loss:best": ["run-3", "run-2", "run-1"],
        "-loss:best": ["run-1", "run-2", "run-3"],
        "eval_f1": ["run-1", "run-2", "run-3"],
        "-eval_f1": ["run-2", "run-1", "run-3"],
        "params.lr_own": ["run-2", "run-3", "run-1"],
        "-name": ["run-3", "run-2", "run-1"],
    }.items():
        found = json.loads(printed(capsys, "out", "--sort", column, "--json"))["runs"]
        assert [entry["name"] for entry in found] == order, column


def test_json_and_csv_have_the_same_columns(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, "out", "--json"))
    assert document["errors"] == []
    assert document["runs"][0] == {
        "name": "run-1",
        "source": "out/run-1/trainer_state.json",
        "group": None,
        "status": "unknown",
        "rows": 3,
        "steps": 1000,
        "loss": 3.0,
        "loss:best": 2.0,
        "eval_loss": 1.5,
        "eval_loss:best": 1.5,
        "eval_f1": 0.25,
        "eval_f1:best": 0.25,
        "params": {"lr_own": 0.001},
    }
    first, _, last = rows(capsys, "out")
    assert [*first] == [*[*document["runs"][0]][:-1], "params.lr_own"]
    assert first["params.lr_own"] == "0.001"
    assert (last["eval_f1"], last["loss:best"]) == ("", "0.6666666666666666")


def test_chosen_columns(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--columns", "name,loss:best_step", "--columns", "params.lr_own,epochs,seconds"]
    (entry, *_) = json.loads(printed(capsys, "out", *chosen, "--json"))["runs"]
    assert entry == {
        "name": "run-1",
        "loss:best_step": 500,
        "params.lr_own": 0.001,
        "epochs": 2.0,
        "seconds": None,  # the log has no times
    }
    assert [*rows(capsys, "out", *chosen)[0]] == [*entry]


def test_a_column_that_no_run_has(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, near in (
        (["--columns", "name,eval_los"], "eval_loss"),
        (["--sort", "-stepz"], "steps"),
        (["--columns", "params.lr_on", "--csv"], "params.lr_own"),
    ):
        capsys.readouterr()
        assert bridge(["ls", "out", *arguments]) == 2
        assert f"Did you mean '{near}'?" in capsys.readouterr().err


def test_csv_of_known_columns_is_printed_while_runs_are_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    read = run_directory.RunDirectorySource.read

    def watched(self: Any, *arguments: Any) -> Iterator[Run]:
        for run in read(self, *arguments):
            yield run
            seen.append(capsys.readouterr().out)

    monkeypatch.setattr(run_directory.RunDirectorySource, "read", watched)
    assert bridge(["ls", "out", "--columns", "name,rows", "--csv"]) == 0
    assert seen == ["name,rows\nrun-1,3\n", "run-2,3\n", "run-3,2\n"]
    seen.clear()
    assert bridge(["ls", "out", "--csv"]) == 0
    assert seen == ["", "", ""]


def table(width: int | None, columns: list[str] | None = None) -> list[str]:
    listing = Listing(columns or [])
    for run in read_runs("out", ExportOptions()):
        listing.add(run)
    return [*Table(listing, columns or [], width).lines(listing.order())]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    lines = [click.unstyle(line) for line in table(width)]
    assert max(map(len, lines[:5])) <= width
    hidden = lines[5].removeprefix("hidden to fit: ").split(", ") if len(lines) > 5 else []
    titles = lines[1].split()
    assert len(titles) + len(hidden) == 10
    assert titles[0] == "name"
    if width == 60:
        assert lines[0].split() == ["loss", "eval_loss", "eval_f1"]
        assert hidden == ["loss:best", "eval_loss", "eval_f1"]


def test_long_names_are_shortened_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "out" / "run-1").rename(tmp_path / "out" / f"{'long' * 12}-损失损失-run-1")
    lines = [click.unstyle(line) for line in table(60)]
    assert [line[:16].strip() for line in lines[2:5]] == ["longlongl… 失-run", "run-2", "run-3"]
    assert max(map(cell_len, lines[:5])) <= 60
    assert any("损失损失" in line for line in table(None))


def test_one_bad_file_never_stops_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "run-2" / "trainer_state.json").write_text("{")
    capsys.readouterr()
    assert bridge(["ls", "out", "nothing", "--columns", "name"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == ["name", "run-1", "run-3"]
    assert "run-2/trainer_state.json" in err
    assert "nothing" in err
    assert bridge(["ls", "nothing"]) == 2


def test_two_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert bridge(["ls", "out", "--json", "--csv"]) == 2
    assert "--json and --csv" in capsys.readouterr().err


def test_secrets_are_masked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = "hf_" + "a1B2" * 9
    for number in (1, 2):
        secret = {"hub_token": f"{token}{number}", "url": f"https://me:pw{number}@host/x"}
        (tmp_path / "out" / f"run-{number}" / "config.json").write_text(json.dumps(secret))
    for more in ([], ["--json"], ["--csv"]):
        out = printed(capsys, "out", *more)
        assert token not in out
        assert "pw1" not in out


def test_a_terminal_gets_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch("sys.stdout.isatty", return_value=True, create=True):
        out = printed(capsys, "out")
    assert click.unstyle(out.splitlines()[-1]) == "3 runs"
    assert bridge(["ls", "nothing"]) == 2
    assert capsys.readouterr().out == ""


def test_runs_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    kept: list[weakref.ref[Run]] = []
    add = Listing.add

    def watched(self: Listing, run: Run) -> int:
        kept.append(weakref.ref(run))
        gc.collect()
        alive.append(sum(one() is not None for one in kept))
        return add(self, run)

    monkeypatch.setattr(Listing, "add", watched)
    assert bridge(["ls", "out"]) == 0
    assert alive[-1] <= 2
