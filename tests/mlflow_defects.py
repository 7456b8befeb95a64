"""File stores with one defect each, and what a reader should make of it.

Each store has a run `RUN` in the experiment 0, which the defect concerns, and two sound runs: one
beside it and one in the experiment 9.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN, NEIGHBOUR, OTHER, COPY = ("a" * 32, "b" * 32, "d" * 32, "c" * 32)
SOUND = (NEIGHBOUR, OTHER)
TIME = 1_600_000_000_123
Point = tuple[int, float, int]  # time (ms), value, step
POINTS: tuple[Point, ...] = ((TIME, 0.5, 1), (TIME + 1, 0.25, 2))
FIRST, SECOND = POINTS
LINES = "".join(f"{time} {value} {step}\n" for time, value, step in POINTS)
LOSS = "metrics/loss"
EXPERIMENT_META = (
    "artifact_location: file:///x/{id}\n"
    "experiment_id: '{id}'\n"
    "lifecycle_stage: active\n"
    "name: {name}\n"
)
BESIDE = "../meta.yaml"  # where a finding about the experiment is


def run_meta(of: str = RUN, experiment: str = "0", **changes: Any) -> str:
    """A `meta.yaml` of a run; None leaves a field out."""
    fields: dict[str, Any] = {
        "artifact_uri": f"file:///x/0/{of}/artifacts",
        "end_time": 1600000009000,
        "entry_point_name": "",
        "experiment_id": experiment,
        "lifecycle_stage": "active",
        "run_id": of,
        "run_name": "n",
        "run_uuid": of,
        "source_name": "",
        "source_type": 4,
        "source_version": "",
        "start_time": 1600000000000,
        "status": 3,
        "tags": [],
        "user_id": "u",
        **changes,
    }
    kept = {key: value for key, value in fields.items() if value is not None}
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in kept.items())


class StoreFolder:
    """A file store on the disk that a defect changes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.experiment = root / "0"
        self.run = self.experiment / RUN

    def make(self) -> None:
        """The sound store."""
        self.add_experiment("0", "Default")
        self.add_experiment("9", "other")
        self.add_run(RUN)
        self.add_run(NEIGHBOUR)
        self.add_run(OTHER, "9")

    def add_experiment(self, name: str, shown: str, folder: str = "") -> None:
        """An experiment without runs."""
        meta = EXPERIMENT_META.format(id=name, name=shown)
        put(self.root / folder / name / "meta.yaml", meta)

    def add_run(self, run_id: str, experiment: str = "0") -> None:
        """A run with two points, a param and a tag."""
        run = self.root / experiment / run_id
        for part in ("metrics", "params", "tags", "artifacts"):
            (run / part).mkdir(parents=True)
        put(run / "meta.yaml", run_meta(run_id, experiment))
        put(run / LOSS, LINES)
        put(run / "params/lr", "0.1")
        put(run / "tags/mlflow.runName", "n")

    def rename(self, run_id: str) -> None:
        """Give the run another id, which is not quoted in its `meta.yaml`."""
        self.run = self.run.rename(self.experiment / run_id)
        put(self.run / "meta.yaml", run_meta().replace(f'"{RUN}"', run_id))


def put(path: Path, content: str | bytes) -> None:
    """Write a file and the directories around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@dataclass(frozen=True)
class Defect:
    """A defect, and what should come of it.

    points: those of the metric `loss` of the run; None: the run cannot be read
    findings: code and place of each
    error: the end of the path and the place of the error
    run_id: the id of the run
    """

    name: str
    make: Callable[[StoreFolder], object]
    points: tuple[Point, ...] | None = POINTS
    findings: tuple[tuple[str, str], ...] = ()
    error: tuple[str, str] | None = None
    run_id: str = RUN


def _lines(
    name: str, content: str | bytes, points: tuple[Point, ...], *findings: tuple[str, str]
) -> Defect:
    """Another content of the metric file."""
    return Defect(name, lambda store: put(store.run / LOSS, content), points, findings)


def _damaged(name: str, line: str) -> Defect:
    """A metric file with one line that is not a point, between sound ones."""
    content = LINES.replace("\n", f"\n{line}\n", 1)
    return _lines(name, content, POINTS, ("metric-line-damaged", f"{LOSS}: line 2"))


def _file(name: str, path: str, content: str | bytes, *findings: tuple[str, str]) -> Defect:
    """One more file, or another content of one, in the directory of the run."""
    return Defect(name, lambda store: put(store.run / path, content), findings=findings)


def _run_meta(name: str, content: str, error_place: str) -> Defect:
    """A `meta.yaml` of the run that cannot be read."""
    error = (f"{RUN}/meta.yaml", error_place)
    return Defect(name, lambda store: put(store.run / "meta.yaml", content), None, error=error)


def _experiment_meta(
    name: str, content: str, *findings: tuple[str, str], error: tuple[str, str] | None = None
) -> Defect:
    def make(store: StoreFolder) -> None:
        put(store.experiment / "meta.yaml", content)

    return Defect(name, make, findings=findings, error=error)


def _link(target: str | os.PathLike[str], path: str) -> Callable[[StoreFolder], None]:
    def make(store: StoreFolder) -> None:
        link = store.run / path
        link.unlink(missing_ok=True)
        link.symlink_to(target)

    return make


def _copied_run(store: StoreFolder) -> None:
    store.add_experiment("5", "five")
    shutil.copytree(store.run, store.root / "5" / RUN)


def _second_folder(store: StoreFolder) -> None:
    shutil.copytree(store.run, store.experiment / COPY)


def _link_elsewhere(store: StoreFolder, folder: Path) -> None:
    elsewhere = folder.rename(store.root / "elsewhere")
    folder.symlink_to(elsewhere)


def _pipe_as_meta(store: StoreFolder) -> None:
    (store.run / "meta.yaml").unlink()
    os.mkfifo(store.run / "meta.yaml")


def _huge(store: StoreFolder) -> None:
    with (store.run / "params/huge").open("wb") as file:
        file.truncate(1 << 40)


def _model(name: str, meta: str, code: str) -> Defect:
    def make(store: StoreFolder) -> None:
        put(store.experiment / "models/m-1/meta.yaml", meta)

    return Defect(name, make, findings=((code, "../models/m-1/meta.yaml: line 1"),))


def _stray_dataset(store: StoreFolder) -> None:
    put(store.root / "secret/meta.yaml", "name: secret\ndigest: d\n")
    put(store.run / "inputs/x/meta.yaml", _input("../../secret"))


def _input(source: str) -> str:
    return (
        f"source_id: {source}\nsource_type: DATASET\ndestination_type: RUN\n"
        "destination_id: y\ntags: {}\n"
    )


def _other_experiment(store: StoreFolder, name: str, shown: str) -> None:
    store.add_experiment(name, shown)
    store.add_run(COPY, name)


def _run_value(name: str, **changes: Any) -> Defect:
    """A value of the `meta.yaml` of the run that cannot be read."""

    def make(store: StoreFolder) -> None:
        put(store.run / "meta.yaml", run_meta(**changes))

    return Defect(name, make, findings=(("meta-value-unreadable", "meta.yaml"),))


CONFLICT = f"<<<<<<< HEAD\n{run_meta()}=======\n{run_meta()}>>>>>>> x\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 10\n"
DIGITS, EXPONENT = "1" * 32, "0" * 28 + "1e10"
LATE = f"{TIME + 1} 0.25"
MAX = 1.7976931348623157e308

DEFECTS = (
    Defect("clean", lambda store: None),
    # --- lines of a metric
    _lines("exact repeat", f"{TIME} 0.5 1\n" * 2, (FIRST, FIRST)),
    _lines("NaN twice", f"{TIME} nan 1\n" * 2, ((TIME, math.nan, 1),) * 2),
    _lines("NaN and 0.0", f"{TIME} nan 1\n{TIME} 0.0 1\n", ((TIME, math.nan, 1), (TIME, 0.0, 1))),
    _lines(
        "infinity and the largest number",
        f"{TIME} inf 1\n{TIME} {MAX} 1\n",
        ((TIME, math.inf, 1), (TIME, MAX, 1)),
    ),
    _lines("0.5 and 0.50", f"{TIME} 0.5 1\n{TIME} 0.50 1\n", (FIRST, FIRST)),
    _lines("NaN first", f"{TIME} nan 1\n{TIME} -2.0 2\n", ((TIME, math.nan, 1), (TIME, -2.0, 2))),
    _lines(
        "cut in a value", f"{TIME} 0.5 1\n{LATE}", (FIRST,), ("last-line-cut", f"{LOSS}: line 2")
    ),
    _lines(
        "cut in a time", f"{TIME} 0.5 1\n16000000", (FIRST,), ("last-line-cut", f"{LOSS}: line 2")
    ),
    _lines(
        "cut after a time", f"{TIME} 0.5 1\n{TIME} ", (FIRST,), ("last-line-cut", f"{LOSS}: line 2")
    ),
    _lines("perhaps cut in a step", LINES[:-1], POINTS, ("last-line-unended", f"{LOSS}: line 2")),
    _lines(
        "blank line",
        LINES.replace("\n", "\n\n", 1),
        POINTS,
        ("metric-line-blank", f"{LOSS}: line 2"),
    ),
    _lines("empty metric file", "", (), ("metric-file-empty", LOSS)),
    _lines("CRLF", LINES.replace("\n", "\r\n"), POINTS),
    _lines("four fields", f"{TIME} 0.5 1 x\n", (FIRST,), ("metric-dataset", f"{LOSS}: line 1")),
    _lines(
        "five fields", f"{TIME} 0.5 1 train abc\n", (FIRST,), ("metric-dataset", f"{LOSS}: line 1")
    ),
    _lines(
        "six fields", f"{TIME} 0.5 1 a set abc\n", (FIRST,), ("metric-dataset", f"{LOSS}: line 1")
    ),
    _lines(
        "two fields in all lines",
        "1600000000 0.5\n1600000001 0.4\n",
        ((1600000000000, 0.5, 0), (1600000001000, 0.4, 0)),
        ("times-in-seconds", LOSS),
    ),
    _damaged("step with a point", f"{TIME} 0.5 3.0"),
    _damaged("time with a point", "1600000000.123 0.5 3"),
    _lines("negative time and step", "-5 0.5 -3\n", ((-5, 0.5, -3),)),
    _damaged("step beyond int64", f"{TIME} 0.5 {2**63}"),
    _damaged("time beyond int64", f"{2**63} 0.5 1"),
    _lines(
        "spellings",
        "1 NaN 1\n2 Infinity 2\n3 1E5 3\n4 +1 4\n5 .5 5\n6 1_0 6\n7 True 7\n",
        (
            *((1, math.nan, 1), (2, math.inf, 2), (3, 1e5, 3), (4, 1.0, 4)),
            *((5, 0.5, 5), (6, 10.0, 6), (7, 1.0, 7)),
        ),
    ),
    _damaged("not a number", f"{TIME} abc 1"),
    _damaged("a tensor", f"{TIME} tensor(0.5) 1"),
    _damaged("one field", "1600000000123"),
    _damaged("zero bytes", "\0" * 40),
    # --- meta.yaml of the run
    _run_meta("empty run meta", "", ""),
    _run_meta("run meta of zero bytes", "\0" * 300, ""),
    _run_meta("run meta that is not YAML", "a: [1\nb: }", "line 2"),
    _run_meta("run meta with a merge conflict", CONFLICT, "line 1"),
    _run_meta("half a run meta", run_meta()[:150], "line 6"),
    _run_meta("run meta without id", run_meta(run_id=None, run_uuid=None), ""),
    _run_meta("run meta in Git LFS", LFS, ""),
    Defect("no run meta", lambda store: (store.run / "meta.yaml").unlink(), None, error=(RUN, "")),
    Defect(
        "no end, status and stage",
        lambda store: put(
            store.run / "meta.yaml", run_meta(end_time=None, status=None, lifecycle_stage=None)
        ),
    ),
    Defect(
        "status and source type by name",
        lambda store: put(
            store.run / "meta.yaml", run_meta(status="FINISHED", source_type="PROJECT")
        ),
    ),
    Defect(
        "run meta that may be cut",
        lambda store: put(store.run / "meta.yaml", run_meta()[:-1]),
        findings=(("meta-unended", "meta.yaml"),),
    ),
    _run_value("unknown status", status=9),
    _run_value("time that is none", start_time="yesterday"),
    Defect("no start", lambda store: put(store.run / "meta.yaml", run_meta(start_time=None))),
    Defect(
        "mlflow 0.x",
        lambda store: put(
            store.run / "meta.yaml",
            run_meta(run_id=None, run_name=None, name="old", experiment_id=0),
        ),
    ),
    Defect(
        "name in a tag only",
        lambda store: put(store.run / "meta.yaml", run_meta(run_id=None, run_name=None)),
    ),
    Defect("empty name", lambda store: put(store.run / "meta.yaml", run_meta(run_name=""))),
    Defect(
        "name that differs from the tag",
        lambda store: put(store.run / "meta.yaml", run_meta(run_name="other")),
    ),
    Defect("run id of digits", lambda store: store.rename(DIGITS), run_id=DIGITS),
    Defect("run id like a number", lambda store: store.rename(EXPONENT), run_id=EXPONENT),
    Defect(
        "renamed run directory",
        lambda store: store.run.rename(store.experiment / COPY),
        findings=(("run-id-differs", "meta.yaml"),),
    ),
    Defect(
        "two directories of one run",
        _second_folder,
        error=(f"{COPY}/meta.yaml", ""),
    ),
    Defect(
        "another experiment id",
        lambda store: put(store.run / "meta.yaml", run_meta(experiment_id="7")),
        findings=(("experiment-id-differs", "meta.yaml"),),
    ),
    # --- experiments
    Defect(
        "no experiment meta",
        lambda store: (store.experiment / "meta.yaml").unlink(),
        findings=(("experiment-unknown", BESIDE),),
    ),
    _experiment_meta(
        "empty experiment meta", "", ("experiment-unknown", BESIDE), error=("0/meta.yaml", "")
    ),
    _experiment_meta(
        "experiment of another id",
        EXPERIMENT_META.format(id=7, name="Default"),
        ("experiment-id-differs", BESIDE),
    ),
    _experiment_meta(
        "deleted, but not in the trash",
        EXPERIMENT_META.format(id=0, name="Default").replace("active", "deleted"),
    ),
    Defect("experiment id of letters", lambda store: _other_experiment(store, "my-exp", "mine")),
    Defect("copied experiment", lambda store: _other_experiment(store, "1 copy", "mine")),
    Defect("two experiments of one name", lambda store: _other_experiment(store, "5", "Default")),
    Defect("one run in two experiments", _copied_run),
    Defect(
        "one experiment in root and trash",
        lambda store: shutil.copytree(store.experiment, store.root / ".trash" / "0"),
    ),
    Defect(
        "one name in root and trash", lambda store: store.add_experiment("5", "Default", ".trash")
    ),
    Defect(
        "experiment tags", lambda store: put(store.experiment / "tags/mlflow.note.content", "hi")
    ),
    # --- directories that git does not keep
    Defect("no params", lambda store: shutil.rmtree(store.run / "params")),
    Defect("no artifacts", lambda store: shutil.rmtree(store.run / "artifacts")),
    Defect("no metrics", lambda store: shutil.rmtree(store.run / "metrics"), ()),
    # --- params, tags and keys
    _file("param with CRLF", "params/x", b"a\r\nb"),
    _file("param in Latin-1", "params/x", "é".encode("latin-1"), ("text-not-utf8", "params/x")),
    _file("long param", "params/x", "x" * 9000),
    _file("param with BOM", "params/x", b"\xef\xbb\xbf0.1"),
    _file("param with a zero byte", "params/x", b"a\0b"),
    _file("long tag", "tags/big", "x" * 9000),
    _file(
        "file of the Finder",
        "params/.DS_Store",
        b"\x00\x00\x00\x01Bud1\x80\x81",
        ("hidden-file", "params/.DS_Store"),
    ),
    _file(
        "resource fork",
        "metrics/._loss",
        b"\x00\x05\x16\x07\x80",
        ("hidden-file", "metrics/._loss"),
    ),
    _file(
        "resource fork of ASCII",
        "tags/._x",
        b"\x00\x05\x16\x07\x00\x02Mac OS X",
        ("hidden-file", "tags/._x"),
    ),
    _file("odd key", "metrics/acc (x)=%", LINES),
    _file("long key", f"metrics/{'k' * 200}/{'j' * 100}", LINES),
    # --- datasets
    _file(
        "input without dataset",
        "inputs/x/meta.yaml",
        _input("nope"),
        ("dataset-missing", "inputs/x"),
    ),
    Defect("dataset elsewhere", _stray_dataset, findings=(("dataset-missing", "inputs/x"),)),
    _file("empty input", "inputs/x/meta.yaml", "", ("record-unreadable", "inputs/x/meta.yaml")),
    # --- what is not a regular file
    Defect(
        "link out of the store",
        _link("/etc/hostname", "params/x"),
        findings=(("file-not-read", "params/x"),),
    ),
    Defect(
        "link to itself",
        _link("loop", "metrics/loop"),
        findings=(("file-not-read", "metrics/loop"),),
    ),
    Defect(
        "link to the directory around it",
        _link("..", "tags/up"),
        findings=(("file-not-read", "tags/up"),),
    ),
    Defect(
        "link in place of a metric", _link("../params/lr", LOSS), (), (("file-not-read", LOSS),)
    ),
    Defect(
        "link in place of the run meta",
        _link(f"../{NEIGHBOUR}/meta.yaml", "meta.yaml"),
        None,
        error=(f"{RUN}/meta.yaml", ""),
    ),
    Defect(
        "link in place of a directory",
        lambda store: _link_elsewhere(store, store.run / "params"),
        findings=(("file-not-read", "params"),),
    ),
    Defect(
        "link in place of a run",
        lambda store: _link_elsewhere(store, store.run),
        None,
        error=(RUN, ""),
    ),
    Defect(
        "pipe",
        lambda store: os.mkfifo(store.run / "metrics/pipe"),
        findings=(("file-not-read", "metrics/pipe"),),
    ),
    Defect(
        "pipe in place of the run meta",
        _pipe_as_meta,
        None,
        error=(f"{RUN}/meta.yaml", ""),
    ),
    Defect("huge param", _huge, findings=(("file-not-read", "params/huge"),)),
    Defect(
        "huge hole in a metric",
        lambda store: os.truncate(store.run / LOSS, 1 << 40),
        findings=(("metric-line-damaged", f"{LOSS}: line 3"),),
    ),
    Defect(
        "link in place of the trash",
        lambda store: store.root.joinpath(".trash").symlink_to("9"),
        error=(".trash", ""),
    ),
    _model("unreadable logged model", "<<<<<<< HEAD\n", "record-unreadable"),
)
