"""Damaged tables: named with file, line, found and expected; the rest is read with --salvage."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bridges.errors import SourceError, TreeError
from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.tables.source import TablesSource
from tests.unit.sources.tables.tables import LIGHTNING, codes, one, points, put, runs

GOOD = "step,a\n1,2\n3,4\n"
VALUES = {"a": [(1, 2), (3, 4)]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"step,a\n1,2\n3\n4,5\n", "line 3: found 1 cell; expected 2, as the first line has"),
        (b"step,a\n1,2\n3,4,5\n", "line 3: found 3 cells; expected 2"),
        (b"step,a\r\n1,2\r\n\r\n3\r\n", "line 4: found 1 cell"),
        (b"\n\nstep,a\n1,2\n3\n", "line 5: found 1 cell"),
        (b"step,a\n1,2\n3,\0\0\0\0\0\0\0\0\n", "line 3: found 8 zero bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git-LFS pointer"),
        (b"<html><body>404</body></html>", "found an HTML or XML page"),
        (b"\xff\xfes\0t\0e\0p\0", "found UTF-16 text"),
        (b"\x89PNG\r\n", "found a PNG picture"),
        (gzip.compress(GOOD.encode(), mtime=0)[:20], "gzip data that ends too early"),
        (b'{"step": 1, "a": 2}\nnonsense\n{"step": 2}\n', "line 2: found 'nonsense'; expected a J"),
        (b'{"step": 1, "a": 2}\n[1]\n{"step": 2}\n', "line 2: found '[1]'"),
    ],
)
def test_damage_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = put(tmp_path / "a.csv", data)
    with pytest.raises(SourceError) as caught:
        runs(path)
    assert str(caught.value).startswith(path)
    assert message in str(caught.value)
    assert not isinstance(caught.value, MissingSourceError)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", b"step,a\n", b"step,a\n1,\n2,\n"])
def test_tables_without_values(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(MissingSourceError, match=r"an empty file|a table without values"):
        runs(put(tmp_path / "a.csv", data))


@pytest.mark.parametrize(
    "data",
    [
        b"step,a\n1,2\n9\n3,4\n",
        b"step,a\n1,2\n9,9,9\n3,4\n",
        b"step,a\n1,2\n9,\0\0\0\n3,4\n",
        b'{"step": 1, "a": 2}\nnonsense\n{"step": 3, "a": 4}\n',
    ],
)
def test_salvage_reads_the_other_rows(tmp_path: Path, data: bytes) -> None:
    run = one(put(tmp_path / "a.csv", data), salvage=True)
    assert points(run) == VALUES
    assert codes(run) & {"table-rows-damaged", "zero-bytes"}


@pytest.mark.parametrize(
    "data",
    [
        GOOD.encode(),
        GOOD.encode().rstrip(b"\n"),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace("\n", "\r\r\n").encode(),
        GOOD.replace("\n", "\r").encode(),
        GOOD.replace("\n", "\n\n").encode(),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode(),
        GOOD.replace(",", " , ").encode(),
        b'"step","a"\n"1","2"\n3,4\n',
        GOOD.replace("3,4", "step,a\n3,4").encode(),
        gzip.compress(GOOD.encode(), mtime=0),
        GOOD.encode() + b"5",
        b'#{"t_start": 1.5, "env_id": "x"}\n' + GOOD.encode(),
        b",step,a\n0,1,2\n1,3,4\n",
        b'{"step": 1, "a": 2}\n\n{"step": 3, "a": 4, "b": null}',
        b'{"step": 1, "a": 2}\r\n{"step": 3, "a": 4}\r\n{"step": 5, "a"',
    ],
)
def test_harmless_differences(tmp_path: Path, data: bytes) -> None:
    run = one(put(tmp_path / "a.csv", data))
    assert points(run) == VALUES


def test_a_row_being_written_waits(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", GOOD + "5,1")
    assert points(one(path)) == {"a": [*VALUES["a"], (5, 1)]}
    assert points(one(path, growing=True)) == VALUES
    cut = one(put(tmp_path / "b.csv", GOOD + "5"))
    assert "table-row-cut-off" in codes(cut)


def test_columns_of_equal_or_no_names(tmp_path: Path) -> None:
    run = one(put(tmp_path / "a.csv", "step,a,a,\n1,2,3,4\n"))
    assert points(run) == {"a": [(1, 2)], "a.1": [(1, 3)]}
    assert {"table-columns-alike", "table-column-unnamed"} <= codes(run)


def test_one_bad_table_does_not_stop_the_others(tmp_path: Path) -> None:
    for name in ("version_0", "version_1", "version_2", "version_3"):
        put(tmp_path / name / "metrics.csv", LIGHTNING)
    put(tmp_path / "version_1/metrics.csv", LIGHTNING + "1,2\n")
    put(tmp_path / "version_2/metrics.csv", b"version https://git-lfs.github.com/spec/v1\n")
    found: list[str] = []
    with pytest.raises(TreeError) as caught:
        found.extend(run.name for run in TablesSource().read(str(tmp_path), ReadOptions()))
    assert [name.rpartition("/")[2] for name in found] == ["version_0", "version_3"]
    assert len(caught.value.errors) == 2
    assert "version_1/metrics.csv: line 5: found 2 cells" in str(caught.value)
    assert "git lfs pull" in str(caught.value)


@pytest.mark.parametrize("line", [0, 1])
def test_a_text_that_was_cut_within_a_character_is_no_damage(tmp_path: Path, line: int) -> None:
    r"""Python's json writes `text[:n]` so, and reads it."""
    rows: list[dict[str, object]] = [{"step": step, "a": step / 4} for step in (1, 2)]
    rows[line]["text"] = "\ud83c"
    path = put(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    found = points(one(path, format="jsonl"))
    assert found == {"a": [(1, 0.25), (2, 0.5)], "text": [(line + 1, "\ud83c")]}
