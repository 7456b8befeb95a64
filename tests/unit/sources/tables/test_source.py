"""Tables as a source: the contract, names, params, growth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bridges
from bridges.errors import SourceError
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.read_runs import source_of
from bridges.pipeline.watching import stamps
from bridges.sources.options import ReadOptions
from bridges.sources.tables.source import TablesSource
from bridges.stream.identity import prefix_digest, run_key
from bridges.testing.sources import SourceContract
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

DVCLIVE = {
    "plots/metrics/train/loss.tsv": "timestamp\tstep\tloss\n1644420777053\t0\t0.5\n"
    "1644420792335\t1\t0.25\n",
    "plots/metrics/val/acc.tsv": "timestamp\tstep\tacc\n1644420777153\t0\t0.75\n",
}
CATBOOST = {
    "learn_error.tsv": "iter\tRMSE\n0\t1.5\n1\t1.25\n2\t1\n",
    "test_error.tsv": "iter\tRMSE\n0\t1.75\n1\t1.5\n2\t1.25\n",
    "time_left.tsv": "iter\tPassed\tRemaining\n0\t100\t900\n1\t250\t750\n2\t300\t600\n",
    "catboost_training.json": '{\n"meta":{"iteration_count":3,"name":"experiment"},\n'
    '"iterations":[\n{"learn":[1.5],"iteration":0}]}',
}


class TestLightning(SourceContract):
    source = TablesSource

    def write_run(self, folder: Path) -> str:
        return put(folder / "metrics.csv", LIGHTNING)


class TestTree(SourceContract):
    source = TablesSource

    def write_run(self, folder: Path) -> str:
        for name, text in DVCLIVE.items():
            put(folder / "tree/dvclive" / name, text)
        for name, text in CATBOOST.items():
            put(folder / "tree/catboost_info" / name, text)
        put(folder / "tree/train/results.csv", ULTRALYTICS)
        put(folder / "tree/keras.csv", KERAS + KERAS.partition("\n")[2].replace("0.5", "0.25"))
        return str(folder / "tree")

    def write_broken(self, folder: Path) -> str:
        return put(folder / "metrics.csv", LIGHTNING + "1,2\n")


def test_values_and_steps(tmp_path: Path) -> None:
    run = one(put(tmp_path / "metrics.csv", LIGHTNING))
    assert points(run) == {
        "epoch": [(49, 0), (99, 0), (99, 0)],
        "train_loss": [(49, 0.5), (99, 0.4)],
        "val_loss": [(99, 0.45)],
    }
    assert (run.key_style, len(run.stream)) == ("tags", 3)
    assert [part.values.dtype for part in run.stream.series] == [np.int64, np.float64, np.float64]


def test_an_empty_table_behind_the_last_run_is_a_note_of_it(tmp_path: Path) -> None:
    for version, text in enumerate((LIGHTNING, LIGHTNING, LIGHTNING.splitlines()[0] + "\n")):
        put(tmp_path / f"lightning_logs/version_{version}/metrics.csv", text)
    first, last = runs(tmp_path)
    assert "table-empty" not in codes(first)
    (note,) = [finding for finding in last.findings if finding.code == "table-empty"]
    assert note.where.endswith("version_2/metrics.csv")


def test_the_time_and_the_step_are_no_metrics(tmp_path: Path) -> None:
    run = one(put(tmp_path / "results.csv", ULTRALYTICS))
    keys = {"train/box_loss", "metrics/mAP50(B)", "val/box_loss", "lr/pg0"}
    assert ({*run.stream.keys}, run.stream.step.tolist()) == (keys, [1, 2])
    assert "table-steps-are-epochs" in codes(run)
    assert {*one(put(tmp_path / "progress.csv", SB3)).stream.keys} == {
        "rollout/ep_rew_mean",
        "train/loss",
    }


@pytest.mark.parametrize(
    ("path", "location", "name"),
    [
        ("lightning_logs/version_3/metrics.csv", "lightning_logs", "lightning_logs/version_3"),
        ("lightning_logs/version_3/metrics.csv", "", "lightning_logs/version_3"),
        ("x/lightning_logs/version_3/metrics.csv", "", "x/lightning_logs/version_3"),
        ("lightning_logs/version_3/metrics.csv", "lightning_logs/version_3", None),
        ("lightning_logs/version_3/metrics.csv", "lightning_logs/version_3/metrics.csv", None),
        ("lightning_logs/version_3/metrics.csv", "*/version_*", None),
        ("big/metrics.csv", "", "big"),
        ("big/metrics.csv", "big", "big"),
        ("logs/A2C.csv", "", "logs/A2C"),
        ("logs/A2C.csv", "logs/A2C.csv", "A2C"),
        ("a/results.csv", "", "a"),
    ],
)
def test_names(tmp_path: Path, path: str, location: str, name: str | None) -> None:
    text = {"metrics": LIGHTNING, "A2C": SB3, "results": ULTRALYTICS}[Path(path).stem]
    put(tmp_path / path, text)
    run = one(tmp_path / location)
    assert run.name == (name or "lightning_logs/version_3")


def test_params_are_read_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "metrics.csv", LIGHTNING)
    put(
        tmp_path / "hparams.yaml",
        "lr: 0.1\nact: !!python/name:torch.nn.ReLU ''\nconfig: !!python/object:a.B\n  x: 1\n"
        "call: !!python/object/apply:os.system ['touch /tmp/x']\nwandb_api_key: "
        + "0123456789abcdef" * 3
        + "\n",
    )
    run = one(tmp_path)
    expected = {"lr": 0.1, "act": "torch.nn.ReLU", "config": {"x": 1}, "call": ["touch /tmp/x"]}
    assert {key: run.params[key] for key in expected} == expected
    assert "0123456789abcdef" not in str(run.params)
    assert {"params-beside", "secret-masked-beside"} <= codes(run)
    put(tmp_path / "hparams.yaml", "a: [")
    assert "beside-unreadable" in codes(one(tmp_path))


def test_the_end_is_known_by_the_planned_epochs(tmp_path: Path) -> None:
    path = put(tmp_path / "results.csv", ULTRALYTICS)
    assert one(path).status == "unknown"
    for epochs, status in ((2, "finished"), (3, "unknown")):
        put(tmp_path / "args.yaml", f"epochs: {epochs}\n")
        assert one(path).status == status


def test_dvclive_is_one_run_with_its_times(tmp_path: Path) -> None:
    for name, text in DVCLIVE.items():
        put(tmp_path / "exp/dvclive" / name, text)
    put(tmp_path / "exp/params.yaml", "lr: 0.5\n")
    run = one(tmp_path)
    assert points(run) == {"train/loss": [(0, 0.5), (1, 0.25)], "val/acc": [(0, 0.75)]}
    assert (run.name, run.params["lr"]) == ("exp/dvclive", 0.5)
    assert [run.stream.times(part).tolist() for part in run.stream.series] == [
        [1_644_420_777_053_000, 1_644_420_792_335_000],
        [1_644_420_777_153_000],
    ]


def test_metrics_with_times_are_the_clock_of_the_others(tmp_path: Path) -> None:
    loss = "timestamp\tstep\tloss\n1644420777053\t0\t0.5\n"
    put(tmp_path / "dvclive/plots/metrics/loss.tsv", loss)
    put(tmp_path / "dvclive/plots/metrics/acc.tsv", "step\tacc\n0\t0.5\n1\t0.25\n")
    run = one(tmp_path)
    assert run.stream.time is None
    (times,) = run.evidence
    assert (times.rows.tolist(), times.time.tolist()) == ([0], [1_644_420_777_053_000])


def test_old_dvclive_and_a_step_logged_twice(tmp_path: Path) -> None:
    put(tmp_path / "dvclive/loss.tsv", "step\tloss\n0\t3\n0\t2\n1\t1\n")
    put(tmp_path / "dvclive/a.b c.tsv", "step\ta.b c\n1\t5\n")
    put(tmp_path / "dvclive/other.tsv", "step\tx\ty\n0\t3\t4\n")
    put(tmp_path / "dvc.yaml", "stages: {}\n")
    run = one(tmp_path)
    assert points(run) == {"loss": [(0, 3), (0, 2), (1, 1)], "a.b c": [(1, 5)]}
    assert "table-uncertain" in codes(run)


def test_catboost_is_one_run_with_its_durations(tmp_path: Path) -> None:
    for name, text in CATBOOST.items():
        put(tmp_path / "catboost_info" / name, text)
    run = one(tmp_path)
    assert points(run) == {
        "learn/RMSE": [(0, 1.5), (1, 1.25), (2, 1)],
        "test/RMSE": [(0, 1.75), (1, 1.5), (2, 1.25)],
    }
    assert (run.status, run.params["iteration_count"]) == ("finished", 3)
    (durations,) = run.evidence
    assert durations.time.tolist() == [100_000, 250_000, 300_000]


@pytest.mark.parametrize("text", [LIGHTNING, KERAS, SB3, ULTRALYTICS])
@pytest.mark.parametrize("name", ["metrics.csv"])
def test_a_growing_table_appends(tmp_path: Path, text: str, name: str) -> None:
    """Cut at every line, exported, and grown: one run, which only ever gets new rows."""
    lines = text.splitlines(keepends=True)
    more = [line.replace("2,", "3,").replace("99", "199") for line in lines[1:]]
    whole = text if text is LIGHTNING else "".join([*lines, *more[-1:]])
    path, target, lines = tmp_path / name, MemoryExporter(), whole.splitlines(keepends=True)
    seen = []
    for count in range(2, len(lines) + 1):
        put(path, "".join(lines[:count]))
        run = one(path)
        report = export_run(run, target, ExportOptions())
        seen.append(report.status)
        assert report.verified, report.findings
        assert export_run(one(path), target, ExportOptions()).status == "unchanged"
    assert seen == ["exported", *["appended"] * (len(lines) - 2)]
    assert len(target.runs) == 1


def test_new_columns_do_not_change_earlier_rows(tmp_path: Path) -> None:
    """Lightning and SB3 write the file again when a key is new, with blanks in earlier rows."""
    short = one(put(tmp_path / "a.csv", "step,a\n1,2\n2,3\n"))
    long = one(put(tmp_path / "a.csv", "a,b,step\n2,,1\n3,,2\n4,5,3\n"))
    assert run_key(short) == run_key(long)
    assert prefix_digest(short.stream, 2) == prefix_digest(long.stream, 2)


def test_a_moved_directory_is_the_same_run(tmp_path: Path) -> None:
    first = one(put(tmp_path / "a/metrics.csv", LIGHTNING))
    assert run_key(first) == run_key(one(put(tmp_path / "b/c/metrics.csv", LIGHTNING)))


def test_the_files_of_a_location_are_watched(tmp_path: Path) -> None:
    path = put(tmp_path / "version_0/metrics.csv", LIGHTNING)
    put(tmp_path / "version_0/hparams.yaml", "a: 1\n")
    known = stamps(str(tmp_path))
    assert known is not None
    assert {Path(name).name for name in known} == {"metrics.csv", "hparams.yaml"}
    put(Path(path), LIGHTNING + "1,149,0.3,\n")
    assert stamps(str(tmp_path)) != known
    assert {*(stamps(path) or {})} == {path}


def test_urls(tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe({"/tables/version_0/metrics.csv": LIGHTNING.encode()})
    files.pipe({"/tables/version_0/hparams.yaml": b"lr: 1\n"})
    for name, text in DVCLIVE.items():
        files.pipe({f"/tables/dvclive/{name}": text.encode()})
    try:
        found = {run.name: run for run in runs("memory://tables")}
        assert {*found} == {"tables/version_0", "tables/dvclive"}
        assert found["tables/version_0"].params == {"lr": 1}
        assert {*points(found["tables/dvclive"])} == {"train/loss", "val/acc"}
        assert one("memory://tables/version_0/metrics.csv").stream.points == 6
    finally:
        files.rm("/tables", recursive=True)


def test_integers_that_are_rounded_are_counted(tmp_path: Path) -> None:
    text = "step,big,loss\n1,9223372036854775807,1\n2,123456789012345678901234,2\n"
    run = one(put(tmp_path / "a.csv", text))
    assert points(run)["big"] == [(1, 2**63 - 1), (2, 1.2345678901234568e23)]
    (found,) = (each for each in run.findings if each.code == "integer-beyond-int64")
    assert "big" in f"{found.where} {found.message}"


def test_a_table_through_event_files_and_back(tmp_path: Path) -> None:
    """All numbers return with their steps, as 32-bit values."""
    for name, text in {"a/metrics.csv": LIGHTNING, "b/progress.csv": SB3}.items():
        put(tmp_path / "x" / name, text)
    for name, text in DVCLIVE.items():
        put(tmp_path / "x/dvclive" / name, text)
    report = bridges.export(str(tmp_path / "x"), to="tensorboard", logdir=str(tmp_path / "tb"))
    assert report.exit_code == 0
    source = source_of(str(tmp_path / "tb"), None)
    back = {run.name: run for run in source.read(str(tmp_path / "tb"), ReadOptions())}
    for run in runs(tmp_path / "x"):
        name = run.name.rpartition("/")[2]
        expected = {
            key: [(step, float(np.float32(value))) for step, value in each]
            for key, each in points(run).items()
        }
        (found,) = (each for other, each in back.items() if other.rpartition("/")[2] == name)
        assert {key: sorted(each) for key, each in points(found).items()} == {
            key: sorted(each) for key, each in expected.items()
        }
        assert run_key(found) == run_key(run)


def test_an_empty_table_has_the_remedy_of_an_empty_file(tmp_path: Path) -> None:
    path = put(tmp_path / "metrics.csv", "")
    for place in (path, str(tmp_path)):
        with pytest.raises(SourceError) as caught:
            runs(place)
        assert caught.value.remedy.startswith("The training logged nothing")
        assert "empty" in caught.value.found
