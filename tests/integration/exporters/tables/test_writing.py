"""Tables are replaced as a whole, once, and repaired after any interruption."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.errors import ConfigError
from bridges.exporters.tables import csv_files, parquet_files
from bridges.report import RunReport
from bridges.views.viewers import viewers
from tests import kills
from tests.integration.exporters.tensorboard.support import (
    ENVIRONMENT,
    bridge_command,
    training_rows,
    write_state,
)

FORMATS = ("parquet", "csv")
TABLES = ("metrics", "params", "runs", "texts", "wide")
ROWS = [*training_rows(40), {"note": "a text", "step": 40}]
SHORT = ROWS[:15]
KILLS = 8


class Crash(BaseException):
    """The end of a process."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path, ROWS)


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    state = write_state(folder / "source" / "trainer_state.json", rows)
    (state.parent / "config.json").write_text('{"hidden_size": 8}')
    return state


def export(source: Path, to: str, out: Path, **options: Any) -> RunReport:
    (report,) = bridges.export(source, to=to, out=out, **options).runs
    assert report.verified, report.findings
    return report


def stamps(out: Path) -> dict[str, int]:
    """The times of change of all files."""
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def visible(out: Path) -> dict[str, bytes]:
    """All files of tables that readers see, with their content."""
    found = (path for path in out.glob("*/*") if path.name[0] != ".")
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def points(out: Path, to: str, table: str = "metrics") -> polars.DataFrame:
    pattern = f"{out}/{table}/*.{to}"
    return polars.read_parquet(pattern) if to == "parquet" else polars.read_csv(pattern)


def count(rows: list[dict[str, Any]]) -> int:
    """The numbers in rows."""
    return sum(key != "step" and not isinstance(v, str) for row in rows for key, v in row.items())


@pytest.mark.parametrize("to", FORMATS)
def test_an_equal_export_writes_nothing(to: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export(source, to, out, wide=True).status == "exported"
    before = stamps(out)
    assert {Path(path).parent.name for path in before} == {*TABLES, "out"}
    assert export(source, to, out, wide=True).status == "unchanged"
    assert bridges.verify(source, to=to, out=out).exit_code == 0
    assert stamps(out) == before


@pytest.mark.parametrize("to", FORMATS)
def test_a_longer_history_replaces_the_files(to: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = export(write(tmp_path, SHORT), to, out)
    assert not (out / "texts").exists()
    second = export(write(tmp_path, ROWS), to, out)
    assert (second.status, second.location) == ("appended", first.location)
    assert len(points(out, to)) == count(ROWS)
    assert len(points(out, to, "texts")) == 1
    assert points(out, to, "runs")["rows"].to_list() == [len(ROWS)]


@pytest.mark.parametrize("to", FORMATS)
def test_a_wide_table_is_added_later_and_then_kept_up_to_date(to: str, tmp_path: Path) -> None:
    out, source = tmp_path / "out", write(tmp_path, SHORT)
    export(source, to, out)
    assert not (out / "wide").exists()
    report = export(source, to, out, wide=True)
    added = {found.code: found.where for found in report.findings if found.severity.value == "info"}
    assert added["part-added"] == "wide"
    assert "interrupted-before" not in added
    assert len(points(out, to, "wide")) == len(SHORT)
    export(write(tmp_path, ROWS), to, out)
    assert len(points(out, to, "wide")) == len(ROWS) - 1
    assert export(source, to, out, wide=True).status == "unchanged"


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("to", FORMATS)
def test_a_lost_or_changed_file_is_found(to: str, table: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(source, to, out, wide=True)
    (path,) = (out / table).glob(f"*.{to}")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    report = bridges.verify(source, to=to, out=out)
    if table != "params":  # they are not part of the points
        assert report.exit_code == 1
        assert str(path) in report.runs[0].findings[-1].message or to == "csv"
    path.unlink()
    if table in ("metrics", "runs", "wide"):
        assert export(source, to, out, wide=True).status in ("exported", "appended")
        assert path.read_bytes() == content


def test_a_changed_point_is_found(source: Path, tmp_path: Path) -> None:
    """Each column that holds it: an integer is there twice, and a wide table holds it again."""
    rows = [{"loss": 0.25, "n": 7, "flag": True, "step": 1}]
    state = write(tmp_path, rows)
    for table, old, new in (
        ("metrics", ",0.25,", ",0.5,"),
        ("metrics", ",7.0,7,", ",7.0,8,"),
        ("metrics", ",7.0,7,", ",8.0,7,"),
        ("metrics", ",1.0,,bool", ",0.0,,bool"),
        ("metrics", ",loss,", ",lass,"),
        ("wide", ",7,", ",8,"),
        ("wide", ",true", ",false"),
    ):
        out = tmp_path / "out"
        export(state, "csv", out, wide=True)
        (path,) = (out / table).glob("*.csv")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        report = bridges.verify(state, to="csv", out=out)
        assert report.exit_code == 1, (table, old)
        shutil.rmtree(out)


@pytest.mark.parametrize("to", FORMATS)
def test_a_source_file_is_kept_beside_the_tables(to: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = export(source, to, out, attach_source=True)
    assert "source-not-attached" not in [found.code for found in report.findings]
    run = Path(report.location or "").stem
    path = out / "sources" / run / "trainer_state.json"
    assert path.read_bytes() == source.read_bytes()
    before = stamps(out)
    assert export(source, to, out, attach_source=True).status == "unchanged"
    assert stamps(out) == before
    longer = write(tmp_path, [*ROWS, {"loss": 0.5, "step": 41}])
    export(longer, to, out, attach_source=True)
    assert path.read_bytes() == longer.read_bytes()


def test_two_formats_do_not_share_a_directory(source: Path, tmp_path: Path) -> None:
    export(source, "parquet", tmp_path / "out")
    (report,) = bridges.export(source, to="csv", out=tmp_path / "out").runs
    assert report.status == "failed"
    assert report.findings[-1].message == (
        f"{tmp_path / 'out'}: holds .parquet files, so its folders would be of two formats. Choose "
        "another out for the target csv."
    )


def test_both_formats_with_one_directory_are_an_error_before_the_first_run(
    source: Path, tmp_path: Path
) -> None:
    out, config = tmp_path / "out", tmp_path / "c.yaml"
    message = "found the targets parquet and csv; expected a directory for each"
    with pytest.raises(ConfigError, match=message):
        bridges.export(source, to=["parquet", "csv"], out=out)
    config.write_text(
        f"sources: [{source}]\ntargets:\n  - {{to: parquet, out: {out}}}\n"
        f"  - {{to: csv, out: {out}/../out}}\n"
    )
    with pytest.raises(ConfigError, match=message):
        bridges.migrate(config, workers=1)
    assert not out.exists()


def test_both_formats_have_their_own_default(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bridge(["export", str(source), "--to", "parquet,csv", "-q"]) == 0
    assert len(points(Path("parquet"), "parquet")) == len(points(Path("csv"), "csv"))


def test_a_remote_directory_is_refused() -> None:
    with pytest.raises(ConfigError, match="out s3://bucket/x: tables are written to a local"):
        bridges.export("x", to="parquet", out="s3://bucket/x")


def test_a_migration_skips_runs_with_receipts(source: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"sources: [{source.parent}]\ntargets: [{{to: parquet, out: out}}]\n")
    assert bridges.migrate(config).exit_code == 0
    (again,) = bridges.migrate(config).runs
    assert [finding.code for finding in again.findings][-1] == "known-by-its-files"
    export(write(tmp_path, [*ROWS, {"loss": 0.5, "step": 41}]), "parquet", tmp_path / "out")
    (third,) = bridges.migrate(config).runs
    assert "known-by-its-files" not in [finding.code for finding in third.findings]


def test_a_directory_of_tables_has_no_viewer(source: Path, tmp_path: Path) -> None:
    export(source, "parquet", tmp_path / "a b")
    with pytest.raises(ConfigError) as caught:
        viewers([str(tmp_path / "a b")])
    pattern = f"{tmp_path}/a b/metrics/*.parquet"
    assert str(caught.value).endswith(f"Show the points with: duckdb -c \"FROM '{pattern}'\"")


def test_without_pyarrow_the_line_that_installs_it_is_shown(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (report,) = bridges.export(source, to="parquet", out=tmp_path / "out").runs
    assert "pip install 'tracker-bridges[parquet]'" in report.findings[-1].message
    assert bridges.export(source, to="csv", out=tmp_path / "csv").exit_code == 0


# --- interruptions ----------------------------------------------------------------------------


def crashing(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the process end before the file operation of this number; how many there were."""
    done = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done == number:
                raise Crash
            return call(*arguments, **named)

        return run

    for module, name in ((os, "replace"), (os, "makedirs"), (os, "fsync"), (os, "unlink")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    for module in (parquet_files, csv_files):
        monkeypatch.setattr(module, "write_file", counted(module.write_file))
    return lambda: done


@pytest.mark.parametrize("before", [[], SHORT], ids=["new", "longer"])
def test_every_step_may_be_the_last(
    before: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The points that readers see are always the old or the new ones; a rerun has all."""
    clean = tmp_path / "clean"
    if before:
        export(write(tmp_path, before), "csv", clean, wide=True)
    export(write(tmp_path, ROWS), "csv", clean, wide=True)
    expected, number = visible(clean), 0
    while True:
        number, out = number + 1, tmp_path / f"out{number}"
        if before:
            export(write(tmp_path, before), "csv", out, wide=True)
        source = write(tmp_path, ROWS)
        with monkeypatch.context() as patched:
            steps = crashing(number, patched)
            try:
                export(source, "csv", out, wide=True)
            except Crash:
                pass
            else:
                break
        seen = [*(out / "metrics").glob("*.csv")] if out.exists() else []
        sizes = [len(polars.read_csv(path)) for path in seen]
        assert (
            sizes in ([], [count(ROWS)])
            if not before
            else sizes in ([count(before)], [count(ROWS)])
        )
        assert export(source, "csv", out, wide=True).status in ("exported", "appended", "unchanged")
        assert visible(out) == expected
        assert not [*out.rglob("*.partial")]
    assert steps() == number - 1 > 20


@pytest.mark.parametrize("failing", ["replace", "makedirs", "fsync"])
def test_a_full_disk_is_one_message(
    failing: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, failing, refused)
        (report,) = bridges.export(source, to="csv", out=tmp_path / "out").runs
    message = f"{tmp_path / 'out'}: cannot be written: No space left on device"
    assert (report.status, report.findings[-1].message) == ("failed", message)
    assert not [*tmp_path.rglob("*.partial")]
    assert export(source, "csv", tmp_path / "out").status in ("exported", "appended")


def test_an_unfinished_file_of_a_killed_export_is_not_put_in_place(tmp_path: Path) -> None:
    out, source = tmp_path / "out", write(tmp_path, SHORT)
    run = Path(export(source, "csv", out).location or "").name
    for table in ("texts", "wide"):
        (out / table).mkdir()
        (out / table / f".{run}.partial").write_text("run,row,key,step,json\nold,1,note,1,1\n")
    write_state(source, training_rows(40))
    assert export(source, "csv", out).status == "appended"
    assert not [*(out / "texts").iterdir(), *(out / "wide").iterdir()]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_killed_at_random_moments(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    rows = training_rows(9_000)
    short = rows[:4_000]
    export(write(tmp_path, short), "parquet", kept)
    source = write(tmp_path, rows)

    def begin() -> kills.Command:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(kept, out)
        before = kills.look(out)
        command = bridge_command("export", source, "--to", "parquet", "--out", out)
        process = kills.start(command, env=ENVIRONMENT)
        return kills.Command(process, lambda: kills.look(out) != before)

    def check() -> None:
        assert len(points(out, "parquet")) in (count(short), count(rows))
        export(source, "parquet", out)
        assert len(points(out, "parquet")) == count(rows)
        assert export(source, "parquet", out).status == "unchanged"

    kills.kill_often(KILLS, 22, begin, check)


@pytest.mark.slow
def test_a_reader_sees_the_old_or_the_new_points(tmp_path: Path) -> None:
    out, seen, sizes = tmp_path / "out", set[int](), []
    whole = training_rows(800)
    histories = [whole[: 100 * n] for n in range(1, 9)]
    done = threading.Event()

    def read() -> Iterator[int]:
        while not done.is_set():
            for path in (out / "metrics").glob("*.parquet"):
                yield len(polars.read_parquet(path.read_bytes()))  # it would open a path twice
            time.sleep(0.001)

    reader = threading.Thread(target=lambda: seen.update(read()))
    reader.start()
    for rows in histories:
        export(write(tmp_path, rows), "parquet", out)
        sizes.append(count(rows))
    done.set()
    reader.join()
    assert seen <= {*sizes}
    assert seen


@pytest.mark.parametrize(
    ("to", "shown"), [("parquet", "'{}'"), ("csv", "read_csv('{}', header=true)")]
)
def test_the_printed_command_reads_the_points_beside_an_empty_table(
    to: str, shown: str, source: Path, tmp_path: Path
) -> None:
    """Without `header`, DuckDB takes the names of an empty first table as values."""
    export(source, to, tmp_path / "out")
    pattern = f"{tmp_path}/out/metrics/*.{to}"
    if to == "csv":
        first = tmp_path / "out" / "metrics" / "0.csv"
        first.write_text(next(iter((tmp_path / "out" / "metrics").glob("*.csv"))).open().readline())
    with pytest.raises(ConfigError) as caught:
        viewers([str(tmp_path / "out")])
    query = f"FROM {shown.format(pattern)}"
    assert str(caught.value).endswith(f'duckdb -c "{query}"')
    assert duckdb.sql(f"SELECT sum(value) > 0 {query}").fetchall() == [(True,)]


def test_a_repeated_export_does_not_read_its_own_tables(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("step,loss\n1,0.5\n2,0.4\n")

    def exported() -> list[str]:
        out = str(tmp_path / "csv")
        report = bridges.export(tmp_path, to="csv", out=out, wide=True, format="csv")
        return [run.status for run in report.runs]

    assert exported() == ["exported"]
    assert exported() == ["unchanged"]
