"""File stores: every defect is named and costs only what it concerns; nothing is changed."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bridges.formats.mlflow_store.records import (
    DELETED,
    Experiment,
    Metric,
    RunHead,
    RunRecord,
)
from bridges.sources.mlflow.file_store import FileStore
from bridges.sources.mlflow.runs import run_of
from tests.mlflow_defects import (
    COPY,
    DEFECTS,
    FIRST,
    LINES,
    LOSS,
    OTHER,
    POINTS,
    RUN,
    SECOND,
    SOUND,
    TIME,
    Defect,
    Point,
    StoreFolder,
    put,
    run_meta,
)
from tests.mlflow_stores import RELEASES, REPEATS, unpack_store

BY_NAME = {defect.name: defect for defect in DEFECTS}
Found = dict[str, tuple[RunRecord, list[Metric]]]


def everything(store: FileStore) -> list[tuple[Experiment, list[RunHead]]]:
    return [(experiment, [*store.heads(experiment)]) for experiment in store.experiments()]


def read_all(store: FileStore) -> Found:
    """Record and metrics of each run by id; of equal ids the first one."""
    found: Found = {}
    for _, heads in everything(store):
        for head in heads:
            if head.run_id not in found:
                found[head.run_id] = store.read(head)
    return found


def points_of(metrics: list[Metric], key: str = "loss") -> list[Point]:
    return [
        (int(time), float(value), int(step))
        for metric in metrics
        if metric.key == key
        for time, value, step in zip(metric.time, metric.value, metric.step, strict=True)
    ]


def same_points(found: list[Point], expected: tuple[Point, ...]) -> bool:
    """Equality in which NaN equals NaN."""
    return repr(found) == repr([*expected])


def damaged_store(root: Path, defect: Defect) -> FileStore:
    folder = StoreFolder(root)
    folder.make()
    defect.make(folder)
    return FileStore(str(root))


def state_of(folder: Path) -> Iterator[tuple[str, int, int, str]]:
    """Path, mode, time of change and content of all that is in a directory."""
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        is_small_file = path.is_file() and not path.is_symlink() and status.st_size < 1 << 20
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if is_small_file else ""
        yield str(path), status.st_mode, status.st_mtime_ns, digest


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_each_defect_is_named_and_the_other_runs_arrive(defect: Defect, tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    store = damaged_store(root, defect)
    before = [*state_of(root)]
    found = read_all(store)
    for run_id in SOUND:
        record, metrics = found[run_id]
        assert (points_of(metrics), dict(record.params)) == ([*POINTS], {"lr": "0.1"})
    errors = [(os.path.relpath(error.source, root), error.place) for error in store.errors]
    assert len(errors) == (defect.error is not None)
    if defect.error is not None:
        assert errors[0][0].endswith(defect.error[0])
        assert errors[0][1] == defect.error[1]
    if defect.points is None:
        assert defect.run_id not in found
    else:
        record, metrics = found[defect.run_id]
        assert same_points(points_of(metrics), defect.points)
        assert [(each.code, each.where) for each in record.findings] == [*defect.findings]
    assert [*state_of(root)] == before


def record_of(name: str, root: Path, run_id: str = RUN) -> RunRecord:
    return read_all(damaged_store(root, BY_NAME[name]))[run_id][0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("mlflow 0.x", "old"),
        ("name in a tag only", "n"),
        ("empty name", "n"),
        ("name that differs from the tag", "other"),
    ],
)
def test_names(name: str, shown: str, tmp_path: Path) -> None:
    assert run_of(record_of(name, tmp_path), [], "x").name == shown


@pytest.mark.parametrize(
    ("name", "status", "start", "end"),
    [
        ("clean", "FINISHED", 1600000000000, 1600000009000),
        ("no end, status and stage", "RUNNING", 1600000000000, None),
        ("status and source type by name", "FINISHED", 1600000000000, 1600000009000),
        ("no start", "FINISHED", None, 1600000009000),
        ("unknown status", "RUNNING", 1600000000000, 1600000009000),
        ("time that is none", "FINISHED", None, 1600000009000),
    ],
)
def test_status_and_times(
    name: str, status: str, start: int | None, end: int | None, tmp_path: Path
) -> None:
    head = record_of(name, tmp_path).head
    assert (head.status, head.start, head.end) == (status, start, end)


def test_source_types(tmp_path: Path) -> None:
    assert record_of("clean", tmp_path / "a").source_type == "LOCAL"
    assert record_of("status and source type by name", tmp_path / "b").source_type == "PROJECT"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("param with CRLF", "a\r\nb"),
        ("param in Latin-1", "\ufffd"),
        ("long param", "x" * 9000),
        ("param with BOM", "\ufeff0.1"),
        ("param with a zero byte", "a\0b"),
    ],
)
def test_params_are_kept_byte_for_byte(name: str, value: str, tmp_path: Path) -> None:
    assert record_of(name, tmp_path).params == {"lr": "0.1", "x": value}


@pytest.mark.parametrize("name", ["one run in two experiments", "one experiment in root and trash"])
def test_a_run_of_two_experiments_is_read_twice_and_named(name: str, tmp_path: Path) -> None:
    store = damaged_store(tmp_path, BY_NAME[name])
    heads = [head for _, heads in everything(store) for head in heads if head.run_id == RUN]
    first, second = (store.read(head)[0].findings for head in heads)
    assert (first, second[-1].code) == ((), "run-id-twice")
    assert str(tmp_path / "0" / RUN) in second[-1].message


@pytest.mark.parametrize(
    ("name", "experiments"),
    [
        ("experiment id of letters", [("0", "Default"), ("9", "other"), ("my-exp", "mine")]),
        ("copied experiment", [("0", "Default"), ("9", "other"), ("1 copy", "mine")]),
        ("two experiments of one name", [("0", "Default"), ("5", "Default"), ("9", "other")]),
        ("one name in root and trash", [("0", "Default"), ("9", "other"), ("5", "Default")]),
        ("no experiment meta", [("0", "Default"), ("9", "other")]),
        ("experiment of another id", [("0", "Default"), ("9", "other")]),
    ],
)
def test_experiments(name: str, experiments: list[tuple[str, str]], tmp_path: Path) -> None:
    found = damaged_store(tmp_path, BY_NAME[name]).experiments()
    assert [(each.id, each.name) for each in found] == experiments


def test_experiment_tags(tmp_path: Path) -> None:
    first = damaged_store(tmp_path, BY_NAME["experiment tags"]).experiments()[0]
    assert first.tags == {"mlflow.note.content": "hi"}


def test_runs_of_deleted_experiments_are_deleted(tmp_path: Path) -> None:
    marked = damaged_store(tmp_path / "a", BY_NAME["deleted, but not in the trash"])
    assert {head.stage for head in everything(marked)[0][1]} == {DELETED}
    moved = damaged_store(tmp_path / "b", BY_NAME["one experiment in root and trash"])
    assert [head.stage for _, heads in everything(moved)[2:] for head in heads] == [DELETED] * 2


def test_a_finding_about_an_experiment_is_given_once(tmp_path: Path) -> None:
    found = read_all(damaged_store(tmp_path, BY_NAME["no experiment meta"]))
    codes = [each.code for record, _ in found.values() for each in record.findings]
    assert codes == ["experiment-unknown"]


def test_messages_name_file_place_found_expected_and_remedy(tmp_path: Path) -> None:
    store = damaged_store(tmp_path, BY_NAME["run meta with a merge conflict"])
    read_all(store)
    assert str(store.errors[0]) == (
        f"{tmp_path / '0' / RUN / 'meta.yaml'}: line 1: found a merge conflict of git; expected "
        "YAML as MLflow writes it. Resolve the conflict in the file."
    )


def test_errors_are_told_once(tmp_path: Path) -> None:
    store = damaged_store(tmp_path, BY_NAME["empty run meta"])
    read_all(store)
    read_all(store)
    assert len(store.errors) == 1


def test_many_damaged_lines_are_one_finding(tmp_path: Path) -> None:
    folder = StoreFolder(tmp_path)
    folder.make()
    put(folder.run / LOSS, "x y z\n" * 7 + LINES)
    put(folder.run / "metrics/acc", "x\n")
    record, metrics = read_all(FileStore(str(tmp_path)))[RUN]
    (finding,) = record.findings
    assert finding.where == "metrics/acc: line 1; metrics/loss: lines 1, 2, 3, 4, 5 and 2 more"
    assert (finding.count, points_of(metrics)) == (8, [FIRST, SECOND])


def test_a_line_that_is_being_written_is_not_taken(tmp_path: Path) -> None:
    folder = StoreFolder(tmp_path)
    folder.make()
    for unended in (f"{TIME + 2} 0.125 1", f"{TIME + 2} 0.1", f"{TIME}"):
        put(folder.run / LOSS, LINES + unended)
        record, metrics = read_all(FileStore(str(tmp_path), is_growing=True))[RUN]
        assert (points_of(metrics), record.findings) == ([*POINTS], ())


def test_the_artifact_folder_is_where_the_uri_leads_or_in_the_run(tmp_path: Path) -> None:
    folder = StoreFolder(tmp_path / "store")
    folder.make()
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()

    def found(uri: str) -> str | None:
        put(folder.run / "meta.yaml", run_meta(artifact_uri=uri))
        return read_all(FileStore(str(folder.root)))[RUN][0].artifact_folder

    near = str(folder.run / "artifacts")
    assert found(str(elsewhere)) == found(elsewhere.as_uri()) == str(elsewhere)
    for dead in (
        "file:///C:/Users/x",
        "../mlruns/0/x/artifacts",
        "mlflow-artifacts:/0/x/artifacts",
    ):
        assert found(dead) == near
    assert found("s3://bucket/0/x/artifacts") is None
    (folder.run / "artifacts").rmdir()
    assert found("file:///C:/Users/x") is None


def test_other_directories_are_no_experiments(tmp_path: Path) -> None:
    folder = StoreFolder(tmp_path)
    folder.make()
    put(tmp_path / "models/Reg Model/meta.yaml", "name: Reg Model\naliases: {}\n")
    put(tmp_path / "models/Reg Model/version-1/meta.yaml", "name: Reg Model\nversion: 1\n")
    put(tmp_path / "recipe/meta.yaml", "{% set x = 1 %}\n")
    put(tmp_path / "notes/readme", "x")
    put(tmp_path / "0" / COPY / "artifacts/x", "left by a run that was removed")
    store = FileStore(str(tmp_path))
    assert [each.id for each in store.experiments()] == ["0", "9"]
    assert sorted(read_all(store)) == sorted([RUN, *SOUND])
    assert store.errors == []
    assert store.left_out() == {"registered models": 1, "model versions": 1}


@pytest.mark.parametrize("name", ["nothing/here", "file"])
def test_a_root_that_cannot_be_listed(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = FileStore(str(tmp_path / name))
    if name == "file":
        with pytest.raises(Exception, match="found not a directory"):
            store.experiments()
    else:
        assert store.experiments() == []


def test_runs_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    store = damaged_store(tmp_path, BY_NAME["no experiment meta"])
    heads = [head for _, heads in everything(store) for head in heads]
    for head in heads:
        record, _ = FileStore(str(tmp_path)).read(pickle.loads(pickle.dumps(head)))
        assert record == store.read(head)[0]


@pytest.mark.parametrize("release", RELEASES)
def test_stores_of_all_releases_are_read_without_changes(release: str, tmp_path: Path) -> None:
    root = unpack_store(release, tmp_path)
    before = [*state_of(root)]
    store = FileStore(str(root))
    found = read_all(store)
    assert len(found) == len([*root.glob("**/artifacts/../meta.yaml")]) - len(_models(root))
    assert store.errors == []
    assert [*state_of(root)] == before


def test_the_exact_repeat_of_log_model_is_one_point(tmp_path: Path) -> None:
    ((record, metrics),) = read_all(FileStore(str(unpack_store(REPEATS, tmp_path)))).values()
    assert [len(metric.value) for metric in metrics if metric.key == "acc"] == [2]
    run = run_of(record, metrics, "x")
    (series,) = (series for series in run.stream.series if series.key == "acc")
    assert series.values.tolist() == [0.9]
    counts = {finding.code: finding.count for finding in run.findings}
    assert counts["exact-repeats"] == 1
    (model,) = record.models
    assert [(each.key, each.value, each.run_id) for each in model.metrics] == [
        ("acc", 0.9, record.head.run_id)
    ]


READ_AUDITED = """
import os, sys
from bridges.sources.mlflow.file_store import FileStore

CHANGES = {"os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
           "os.truncate", "os.utime"}
opened, changes = set(), []

def hook(event, arguments):
    if event == "open":
        opened.add(arguments[0])
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            changes.append(arguments)
    elif event in CHANGES:
        changes.append((event, *arguments))

sys.addaudithook(hook)
store = FileStore(sys.argv[1])
for experiment in store.experiments():
    for head in store.heads(experiment):
        store.read(head)
store.left_out()
metrics = [path for path in opened if "/metrics/" in str(path)]
print(len(metrics), changes)
"""


def test_files_are_opened_for_reading_only(tmp_path: Path) -> None:
    root = unpack_store("3.17.2", tmp_path)
    files = [path for path in root.rglob("*") if path.is_file() and "metrics" in path.parts]
    done = subprocess.run(
        [sys.executable, "-c", READ_AUDITED, str(root)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{len(files)} []\n"


def _models(root: Path) -> list[Path]:
    return [*root.glob("*/models/*/meta.yaml")]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can be another")
class TestAnotherUser:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """A store of root that others may read, but not write."""
        root = unpack_store("3.17.2", tmp_path)
        for path in (root, *root.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        for path in (tmp_path, *tmp_path.parents):
            if not path.stat().st_mode & 0o001:  # pytest's own directories are private
                path.chmod(path.stat().st_mode | 0o055)
        return root

    @staticmethod
    def read(root: Path) -> tuple[int, int]:
        """The number of runs and of errors that a process of another user finds."""
        pid = os.fork()
        if not pid:
            os.setuid(65534)
            status = 255
            try:
                store = FileStore(str(root))
                found = len(read_all(store))
                status = found * 10 + len(store.errors) if not os.access(root, os.W_OK) else 255
            finally:
                os._exit(status)
        return divmod(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 10)

    def test_reads_a_store_without_write_permission(self, root: Path) -> None:
        runs = len(read_all(FileStore(str(root))))  # imports all modules, too
        assert self.read(root) == (runs, 0)

    def test_reads_the_rest_of_a_store_with_closed_directories(self, root: Path) -> None:
        store = FileStore(str(root))
        (closed, lost), (_, (run, *_)) = [pair for pair in everything(store) if pair[1]][:2]
        os.chmod(os.path.dirname(lost[0].where), 0o700)
        os.chmod(run.where, 0o700)
        assert closed.id != run.experiment.id
        runs = len(read_all(store))  # imports all modules, too
        assert self.read(root) == (runs - len(lost) - 1, 2)


def test_values_are_kept_bit_for_bit(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, -0.0, 2.0**53 + 2, 5e-324, 1e-310, 0.1]
    folder = StoreFolder(tmp_path)
    folder.make()
    put(folder.run / LOSS, "".join(f"{TIME} {value} {2**60}\n" for value in values))
    _, (metric,) = read_all(FileStore(str(tmp_path)))[RUN]
    assert metric.value.tobytes() == np.array(values).tobytes()
    assert set(metric.step.tolist()) == {2**60}
    assert OTHER != RUN


def test_a_file_in_place_of_a_directory_is_a_loss(tmp_path: Path) -> None:
    root = unpack_store("2.9.2", tmp_path)
    metrics = next(path for path in root.glob("*/*/metrics") if any(path.iterdir()))
    shutil.rmtree(metrics)
    metrics.write_text("x")
    lost = [
        (record.head.run_id, finding.where)
        for record, _ in read_all(FileStore(str(root))).values()
        for finding in record.findings
        if finding.code == "file-not-read"
    ]
    assert lost == [(metrics.parent.name, "metrics")]
