"""Formats are recognised with certainty, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridges.errors import ConfigError, SourceError
from bridges.pipeline.read_runs import source_of
from bridges.sources.folders import folders
from bridges.sources.place import sources_at
from tests.unit.sources.tables.tables import (
    KERAS,
    LIGHTNING,
    SB3,
    ULTRALYTICS,
    codes,
    one,
    points,
    put,
    runs,
)

YOLOV5 = (
    "               epoch,      train/box_loss,   metrics/mAP_0.5,               x/lr0\n"
    "                   0,             0.10625,           0.00012,                 0.1\n"
)
DETECTRON2 = '{"iteration": 19, "loss": 0.5, "time": 0.1}\n{"iteration": 39, "loss": 0.25}\n'
BASELINES = "grad_norm,loss,samples,step\n1.5,0.5,256,0\n1.25,0.25,512,10\n"
CERTAIN = {
    "lightning_logs/version_0/metrics.csv": (LIGHTNING, "lightning"),
    "my/metrics.csv": (LIGHTNING, "lightning"),
    "runs/detect/train/results.csv": (ULTRALYTICS, "ultralytics"),
    "runs/train/exp/results.csv": (YOLOV5, "ultralytics"),
    "training_log.csv": (KERAS, "keras"),
    "history.log": (KERAS.replace(",", ";"), "keras"),
    "logs/progress.csv": (SB3, "sb3"),
    "logs/A2C.csv": (SB3, "sb3"),
    "logs/progress-rank001.csv": (BASELINES, "baselines"),
    "logs/progress.json": ('{"time/total_timesteps": 9, "a": 1}\n', "sb3"),
    "output/metrics.json": (DETECTRON2, "detectron2"),
    "catboost_info/learn_error.tsv": ("iter\tRMSE\n0\t1.5\n1\t1.25\n", "catboost"),
    "dvclive/plots/metrics/train/loss.tsv": ("step\tloss\n0\t1.5\n", "dvclive"),
}
UNCERTAIN = {
    "metrics.csv": "step,loss\n1,0.5\n",  # nothing else tells that it is Lightning's
    "lightning_logs/version_0/metrics.csv": "step,epoch,loss\nabc,0,1\n",
    "results.csv": "name,score\na,1\n",
    "training_log.csv": "epoch,avg_loss,min_loss\n1,0.5,0.25\n",
    "history.csv": "epoch,loss,val_loss,accuracy\n0,1,1,1\n",  # accuracy has no partner
    "data.csv": "a,b\n1,2\n",
    "logs/progress.csv": "loss,reward\n1,2\n",
    "metrics.json": '{"val": {"loss": 1}}\n',
    "a.tsv": "step\ta\n0\t1\n",
    "x/learn_error.tsv": "iter\tRMSE\n0\t1\n",
}


@pytest.mark.parametrize("name", CERTAIN)
def test_a_scan_reads_what_is_certain(tmp_path: Path, name: str) -> None:
    text, format_name = CERTAIN[name]
    put(tmp_path / name, text)
    assert sources_at(str(tmp_path)) == ("tables",)
    assert source_of(str(tmp_path), None).name == "tables"
    run = one(tmp_path)
    (found,) = (finding for finding in run.findings if finding.code == "table-format")
    assert f"read as the format {format_name} (" in found.message


@pytest.mark.parametrize("name", UNCERTAIN)
def test_a_scan_leaves_the_rest_alone(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, UNCERTAIN[name])
    assert sources_at(str(tmp_path)) == ()
    with pytest.raises(SourceError, match=r"no table that is certainly a log|not certainly logs"):
        runs(tmp_path)


@pytest.mark.parametrize("name", [*CERTAIN, *(name for name in UNCERTAIN if ".json" not in name)])
def test_a_named_file_is_read_in_any_case(tmp_path: Path, name: str) -> None:
    text = CERTAIN[name][0] if name in CERTAIN else UNCERTAIN[name]
    path = put(tmp_path / name, text)
    if "abc" in text:
        with pytest.raises(SourceError, match=r"line 2, column 'step': found 'abc'; expected a wh"):
            runs(path)
        return
    assert one(path).stream.points > 0
    assert source_of(path, None).name == "tables"


def test_files_of_the_trainer_stay_the_trainers(tmp_path: Path) -> None:
    for name in ("metrics.json", "x.jsonl", "trainer_state.json", "notes.log"):
        path = put(tmp_path / name, '{"step": 1, "loss": 0.5}\n')
        assert sources_at(path) == ()
    put(tmp_path / "metrics.csv", LIGHTNING)
    assert sources_at(str(tmp_path)) == ()


def test_other_tables_beside_a_log_are_noted(tmp_path: Path) -> None:
    put(tmp_path / "metrics.csv", LIGHTNING)
    put(tmp_path / "data.csv", "a,b\n1,2\n")
    put(tmp_path / "progress.csv", "")
    run = one(tmp_path)
    assert {"table-uncertain", "table-empty"} <= codes(run)


def test_nothing_is_claimed_inside_a_store(tmp_path: Path) -> None:
    put(tmp_path / "dvclive/plots/metrics/train/loss.tsv", "step\tloss\n0\t1.5\n")
    put(tmp_path / "dvclive/artifacts/metrics.csv", LIGHTNING)
    found = {folder.path[len(str(tmp_path)) :]: folder.source for folder in folders(str(tmp_path))}
    assert found == {"": None, "/dvclive": "tables", "/dvclive/artifacts": "tables"}


def test_a_format_can_be_chosen(tmp_path: Path) -> None:
    path = put(tmp_path / "x.csv", "iteration,epoch,loss\n10,1,0.5\n20,2,0.25\n")
    assert one(path).stream.step.tolist() == [10, 20]
    assert one(path, format="keras").stream.step.tolist() == [1, 2]
    assert points(one(path, step_column="epoch")) == {
        "iteration": [(1, 10), (2, 20)],
        "loss": [(1, 0.5), (2, 0.25)],
    }
    with pytest.raises(ConfigError, match="--format 'nonsense': expected lightning, ultralytics"):
        runs(path, format="nonsense")
    with pytest.raises(SourceError, match="found the columns iteration, epoch, loss; expected a c"):
        runs(path, step_column="stpe")
    assert one(tmp_path, format="csv").name == "x"


def test_users_declare_formats(tmp_path: Path) -> None:
    own = put(
        tmp_path / "formats.yaml",
        "tables:\n  mine:\n    files: ['*.log.jsonl']\n    step: t\n    exclude: [gpu_*]\n"
        "    timestamp: {column: at, unit: ms}\n    params: config.json\n",
    )
    put(tmp_path / "runs/a/my.log.jsonl", '{"t": 1, "at": 1700000000123, "loss": 2, "gpu_0": 9}\n')
    put(tmp_path / "runs/a/config.json", '{"lr": 0.1, "api_key": "sk-1234567890abcdefghij"}')
    for choice in (own, f"{own}#mine"):
        run = one(tmp_path / "runs", format=choice)
        assert (points(run), run.name) == ({"loss": [(1, 2)]}, "a/my.log")
        assert run.stream.time is not None
        assert run.stream.time.tolist() == [1_700_000_000_123_000]
        assert run.params["lr"] == 0.1
        assert "1234567890" not in str(run.params)
        assert "secret-masked-beside" in codes(run)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tables: {}", "found no formats; expected the key 'tables'"),
        ("- a", "found no formats; expected the key 'tables'"),
        (
            "tables:\n  x: {step: a}",
            "f.yaml:2: tables.x.files: found no such key; it is required: Patterns of file names",
        ),
        (
            "tables:\n  x:\n    files: a\n    stepp: b",
            "f.yaml:4: tables.x.stepp: found an unknown key; expected one of about, files,",
        ),
        ("tables: {x: {files: a, stepp: b}}", "Did you mean 'step'?"),
        (
            "tables:\n  x:\n    files: a\n    timestamp:\n      column: t\n      unit: h",
            "f.yaml:6: tables.x.timestamp.unit: found the text 'h'; expected 's', 'ms', 'us' or",
        ),
        (
            "tables:\n  x:\n    files: a\n    elapsed: {columns: t, unit: iso}",
            "f.yaml:4: tables.x.elapsed.unit: found the text 'iso'; expected 's', 'ms' or 'us'",
        ),
        ("tables:\n  x:\n    files: [a, 5]", "f.yaml:3: tables.x.files[1]: found the number 5"),
        ("tables: {x: {files: a, blank: zero}}", "tables.x.blank: found the text 'zero'; expected"),
        ("tables:\n  x: 5", "f.yaml:2: tables.x: found the number 5; expected a mapping of keys"),
        ("tables:\n  x: {files: a}\n  x: {files: b}", "found this key on line 2 and on line 3"),
        ("tables: {x: {files: &a [*a]}}", "--format"),
    ],
)
def test_wrong_declarations_are_named(tmp_path: Path, text: str, problem: str) -> None:
    own = put(tmp_path / "f.yaml", text)
    table = put(tmp_path / "a.csv", LIGHTNING)
    with pytest.raises(ConfigError) as caught:
        runs(table, format=own)
    assert problem in str(caught.value)
    assert own in str(caught.value)
