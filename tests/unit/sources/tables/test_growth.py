"""Tables that grow, cut at each border as their loggers write them: a training stays one run.

Each case is a history of files. After each state all runs are exported, and once more, which must
change nothing. In the end, the target has what a single export of the last state gives.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from bridges.exporters.base import Points
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.sources.options import ReadOptions
from bridges.sources.tables.source import TablesSource
from bridges.stream.identity import run_key
from tests.support import DATA
from tests.unit.sources.tables.tables import KERAS, ULTRALYTICS, put

Files = Mapping[str, str]  # text by path
LIGHTNING = (DATA / "tables/lightning/lightning_logs/version_0/metrics.csv").read_text()
SB3 = (DATA / "tables/sb3/progress.csv").read_text()


def lightning() -> Iterator[Files]:
    """The file is written again with all keys so far, sorted, when a key is new."""
    rows = list(csv.DictReader(io.StringIO(LIGHTNING)))
    for count in range(1, len(rows) + 1):
        known = sorted({key for row in rows[:count] for key, cell in row.items() if cell})
        lines = [",".join(known), *(",".join(row[key] for key in known) for row in rows[:count])]
        yield {"version_0/metrics.csv": "".join(f"{line}\r\n" for line in lines)}


def stable_baselines() -> Iterator[Files]:
    """The header is written again when keys are new; earlier rows get commas at their end."""
    rows, known = list(csv.DictReader(io.StringIO(SB3))), list[str]()
    for count in range(1, len(rows) + 1):
        known += [key for key, cell in rows[count - 1].items() if cell and key not in known]
        text = io.StringIO()
        writer = csv.DictWriter(text, known, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows[:count])
        yield {"progress.csv": text.getvalue()}


def by_lines(name: str, text: str) -> list[Files]:
    """A file after each of its lines."""
    lines = text.splitlines(keepends=True)
    return [{name: "".join(lines[:count])} for count in range(2, len(lines) + 1)]


def dvclive(first: int) -> Iterator[Files]:
    """A file for each metric, one after the other; one lacks the step `first`, one ends."""
    files: dict[str, str] = {"params.yaml": "lr: 0.1\n"}
    for step in range(4):
        for name in ("loss", "val/acc"):
            if (name, step) in (("val/acc", first), ("loss", 3)):
                continue
            head = files.get(f"plots/metrics/{name}.tsv") or f"step\t{name.rpartition('/')[2]}\n"
            files[f"plots/metrics/{name}.tsv"] = f"{head}{step}\t{1 / (step + 3)}\n"
            yield {f"dvclive/{path}": text for path, text in files.items()}


def catboost() -> Iterator[Files]:
    """The tables of learning and testing, one a line ahead of the other."""
    for count in range(1, 8):
        learn, test = (count + 1) // 2, count // 2
        files = {
            "catboost_info/learn_error.tsv": [f"{n}\t{2 / (n + 1)}\n" for n in range(learn)],
            "catboost_info/test_error.tsv": [f"{n}\t{3 / (n + 1)}\n" for n in range(test)],
        }
        yield {name: "iter\tRMSE\n" + "".join(rows) for name, rows in files.items()}


MORE = KERAS.partition("\n")[2].replace("0.5", "0.375")
RESUMED = ULTRALYTICS + "3,30,1.125,0.25,1.4,0.008\n4,9,1,0.3,1.3,0.007\n5,18,0.9,0.35,1.2,0.006\n"
CASES: dict[str, tuple[Sequence[Files], int]] = {
    "lightning": ([*lightning()], 1),
    "sb3": ([*stable_baselines()], 1),
    "keras": (by_lines("log.csv", KERAS + "2,0.8,1,0.6,1.25\n"), 1),
    "keras, appended trainings": (by_lines("log.csv", KERAS + MORE + MORE.replace("1.", "2.")), 3),
    "ultralytics, resumed": (by_lines("results.csv", RESUMED), 1),
    "json lines": (
        by_lines("metrics.json", '{"iteration": 1, "a": 2}\n{"iteration": 3, "b": 4}\n'),
        1,
    ),
    "dvclive": ([*dvclive(0)], 1),
    "dvclive, cut in the first step": ([*dvclive(2)], 1),
    "catboost": ([*catboost()], 1),
}


def place(folder: Path, files: Files) -> None:
    """Make the files of a state."""
    for name, text in files.items():
        put(folder / name, text)


def export(folder: Path, target: MemoryExporter) -> list[str]:
    """Export all runs. Returns their statuses."""
    runs = TablesSource().read(str(folder), ReadOptions())
    reports = [export_run(run, target, ExportOptions()) for run in runs]
    assert all(report.verified for report in reports), reports
    return [report.status for report in reports]


def held(target: MemoryExporter) -> list[dict[str, list[tuple[int, str]]]]:
    """The points of each run by tag, sorted by steps."""
    return [_points(target.read_back(stored.run).points) for stored in target.runs.values()]


def _points(found: Mapping[str, Points]) -> dict[str, list[tuple[int, str]]]:
    return {
        tag: sorted(zip(each.step.tolist(), map(repr, each.value.tolist()), strict=True))
        for tag, each in sorted(found.items())
    }


@pytest.mark.parametrize("case", CASES)
def test_growth(tmp_path: Path, case: str) -> None:
    states, count = CASES[case]
    target, folder = MemoryExporter(), tmp_path / "x"
    for state in states:
        place(folder, state)
        export(folder, target)
        assert {*export(folder, target)} == {"unchanged"}
    whole = MemoryExporter()
    export(folder, whole)
    assert len(target.runs) == count
    assert held(target) == held(whole)


def test_a_row_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """Cut at each byte: a table that grows has whole lines only."""
    text, target = ULTRALYTICS, MemoryExporter()
    path = tmp_path / "results.csv"
    start = text.index("\n", text.index("\n") + 1) + 1
    for end in range(start, len(text) + 1):
        put(path, text[:end])
        runs = TablesSource().read(str(path), ReadOptions(growing=True))
        (report,) = [export_run(run, target, ExportOptions()) for run in runs]
        assert report.status == ("unchanged" if start < end < len(text) else report.status)
    assert len(target.runs) == 1
    assert [len(each) for each in held(target)[0].values()] == [2] * 4


def test_a_resume_that_repeats_exported_rows_is_a_run_of_its_own(tmp_path: Path) -> None:
    """The target keeps what was exported; the resumed training is another run."""
    target, path = MemoryExporter(), tmp_path / "results.csv"
    put(path, RESUMED)
    assert export(tmp_path, target) == ["exported"]
    put(path, RESUMED + "4,9.5,1.01,0.31,1.31,0.007\n5,19,0.91,0.36,1.21,0.006\n")
    assert export(tmp_path, target) == ["exported"]
    assert export(tmp_path, target) == ["unchanged"]
    first, second = held(target)
    assert first["train/box_loss"][:3] == second["train/box_loss"][:3]
    assert second["train/box_loss"][3:] == [(4, "1.01"), (5, "0.91")]


def test_a_truncated_table_changes_nothing(tmp_path: Path) -> None:
    target, path = MemoryExporter(), tmp_path / "results.csv"
    lines = RESUMED.splitlines(keepends=True)
    for count, status in ((6, "exported"), (3, "unchanged"), (2, "unchanged"), (6, "unchanged")):
        put(path, "".join(lines[:count]))
        assert export(tmp_path, target) == [status]
    assert len(target.runs) == 1


def test_a_table_written_anew_by_another_training_is_another_run(tmp_path: Path) -> None:
    """Lightning deletes the table of the same version; the name of the run stays free for both."""
    target = MemoryExporter()
    for text in (LIGHTNING, LIGHTNING.replace(",0.", ",1.")):
        put(tmp_path / "version_0/metrics.csv", text)
        assert export(tmp_path, target) == ["exported"]
    assert len(target.runs) == 2


def test_a_resume_of_lightning_begins_at_a_later_step(tmp_path: Path) -> None:
    """Its table has only the rows since then: they are a run of their own, whose key is theirs."""
    head, *rows = LIGHTNING.splitlines(keepends=True)
    (first,) = TablesSource().read(put(tmp_path / "a.csv", LIGHTNING), ReadOptions())
    (later,) = TablesSource().read(put(tmp_path / "b.csv", head + "".join(rows[5:])), ReadOptions())
    assert later.stream.step.tolist() == [4, 5, 6, 7, 7]
    assert run_key(first) != run_key(later)
