"""Small inputs that were once exported wrongly: what every target must hold of each of them.

Only the public functions are used, so that the same test can be run against any version.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.report import RunReport
from tests.support import DATA

FAULTS = DATA / "faults"
TARGETS = ["tensorboard", "mlflow", "wandb", "parquet", "csv", "trackio"]
Runs = dict[str, tuple[int, int]]  # rows and points by the last part of the name
TRIALS = [
    f"_objective_ab12c_0000{n}_{n + 1}_learning_rate=0.000{n + 1}_2024-01-02_03-04-05"
    for n in range(2)
]
# the exit code, the runs, and the counts of the findings that say what was decided
EXPECTED: dict[str, tuple[int, Runs, dict[str, int]]] = {
    "empty_saves": (2, {}, {"source": 2}),
    "flat/*.json": (0, {"alpha": (10, 20), "beta": (10, 20)}, {}),
    "glue": (0, {"glue": (4, 19)}, {"results-added": 1, "results-keys-left-out": 2}),
    "halfnul": (1, {}, {"source": 1}),
    "lf_crash": (0, {"lf_crash": (9, 33)}, {"rows-from-log": 3}),
    "lf_interleaved": (0, {"lf_interleaved": (6, 18)}, {"log-of-two-processes": 6}),
    "lf_live/1": (0, {"1": (4, 12)}, {"log-has-few-metrics": 4}),
    "lf_live/2": (0, {"2": (7, 27)}, {"rows-from-log": 1}),
    "lfs_args": (0, {"out": (5, 20)}, {"beside-unreadable": 1}),
    "nan_runs": (0, dict.fromkeys(("bf16", "fp16", "noflash"), (3, 12)), {"same-rows": 6}),
    "ray2": (0, dict.fromkeys(TRIALS, (4, 16)), {"checkpoints-folded": 2}),
    "st_at": (0, {"st_at": (4, 20)}, {}),
    "step_data.jsonl": (1, {}, {"source": 1}),
    "swift_twice": (0, {"swift_twice": (3, 18)}, {"log-line-twice": 3, "values-rounded": 3}),
    "tie": (0, {"out": (6, 22)}, {"results-added": 1, "predictions-kept": 1}),
}
REFUSED = {
    "empty_saves": "found a state without log rows; expected a log history with rows.",
    "halfnul": "line 50: found 2,000 zero bytes, as a power cut leaves them; expected text.",
    "step_data.jsonl": "Move the entries of 'data' up into its row.",
}


def place(target: str, folder: Path) -> dict[str, Any]:
    places: dict[str, dict[str, Any]] = {
        "tensorboard": {"logdir": folder / "tb"},
        "mlflow": {"tracking_uri": f"sqlite:///{folder}/mlflow.db"},
        "wandb": {"wandb_dir": folder},
        "parquet": {"out": folder / "out"},
        "trackio": {"trackio_dir": folder / "trackio"},
        "csv": {"out": folder / "out"},
    }
    return places[target]


def export(source: Path, target: str, folder: Path, **options: Any) -> list[RunReport]:
    """The reports of runs that are all in the target."""
    report = bridges.export(source, to=target, **place(target, folder), **options)
    assert report.exit_code == 0, report.as_dict()
    assert all(run.verified for run in report.runs)
    return list(report.runs)


def test_every_input_is_expected() -> None:
    assert {name.partition("/")[0] for name in EXPECTED} == {p.name for p in FAULTS.iterdir()}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", EXPECTED)
def test_every_target_holds_what_is_right(name: str, target: str, tmp_path: Path) -> None:
    code, runs, findings = EXPECTED[name]
    report = bridges.export(FAULTS / name, to=target, **place(target, tmp_path))
    done = [run for run in report.runs if run.status == "exported" and run.verified]
    found: dict[str, int] = {}
    for finding in (finding for run in report.runs for finding in run.findings):
        found[finding.code] = found.get(finding.code, 0) + finding.count
    assert {run.run.rpartition("/")[2]: (run.rows, run.points) for run in done} == runs
    assert len({run.location for run in done}) == len(runs)
    assert findings.items() <= found.items()
    assert report.exit_code == code
    assert not {"resume-other-max-steps", "internal-error"} & found.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_what_to_do(name: str) -> None:
    report = bridges.export(FAULTS / name, to="memory")
    for run in report.runs:
        (finding,) = run.findings
        assert REFUSED[name] in finding.message
        assert str(FAULTS / name) in finding.message


@pytest.mark.parametrize("target", TARGETS)
def test_rows_of_a_log_and_then_of_its_state_are_one_run(target: str, tmp_path: Path) -> None:
    shutil.copytree(FAULTS / "lf_live" / "1", tmp_path / "run")
    (first,) = export(tmp_path / "run", target, tmp_path)
    shutil.copytree(FAULTS / "lf_live" / "2", tmp_path / "run", dirs_exist_ok=True)
    (second,) = export(tmp_path / "run", target, tmp_path)
    assert (first.rows, second.rows, second.status) == (4, 7, "appended")
    assert second.location == first.location
    assert export(tmp_path / "run", target, tmp_path)[0].status == "unchanged"


@pytest.mark.parametrize("target", TARGETS)
def test_runs_with_equal_rows_are_told_apart_by_a_migration(target: str, tmp_path: Path) -> None:
    """By its workers, who do not know of each other; and afterwards one by one, under new names."""
    options = "".join(f", {key}: '{value}'" for key, value in place(target, tmp_path).items())
    config = tmp_path / "c.yaml"
    config.write_text(f"sources: ['{FAULTS / 'nan_runs'}']\ntargets: [{{to: {target}{options}}}]\n")
    for status in ("exported", "unchanged"):
        report = bridges.migrate(config, workers=2)
        assert [run.status for run in report.runs] == [status] * 3
        assert len({run.location for run in report.runs}) == 3
    there = {str(run.run): run.location for run in report.runs}
    for name in ("bf16", "fp16", "noflash"):
        labels: dict[str, Any] = {"run_name": f"my {name}", "tags": {"who": name}}
        (run,) = export(FAULTS / "nan_runs" / name, target, tmp_path, **labels)
        assert (run.status, run.location) == ("unchanged", there[name])
        is_kept = target == "tensorboard"
        assert run.run == (name if is_kept else f"my {name}")
        assert ("labels-kept" in [finding.code for finding in run.findings]) is is_kept


@pytest.mark.parametrize("target", TARGETS)
def test_runs_with_equal_rows_have_their_own_names_tags_and_settings(
    target: str, tmp_path: Path
) -> None:
    names = ("bf16", "fp16", "noflash")
    for name in names:
        labels: dict[str, Any] = {"run_name": f"my-{name}", "tags": {"who": name}}
        (run,) = export(FAULTS / "nan_runs" / name, target, tmp_path, **labels)
        assert (run.status, run.run) == ("exported", f"my-{name}")
    if target != "mlflow":
        return
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        rows = database.execute(
            "select r.name, t.value, p.value from runs r join tags t using (run_uuid) "
            "join params p using (run_uuid) where t.key = 'who' and p.key = 'bf16' order by r.name"
        )
        assert [*rows] == [
            ("my-bf16", "bf16", "True"),
            ("my-fp16", "fp16", "False"),
            ("my-noflash", "noflash", "True"),
        ]


@pytest.mark.parametrize("target", TARGETS)
def test_the_next_save_of_ray_tune_goes_on_in_its_run(target: str, tmp_path: Path) -> None:
    search = tmp_path / "ray"
    later = shutil.ignore_patterns("checkpoint_000001")
    shutil.copytree(FAULTS / "ray2", search, ignore=later)
    first = export(search, target, tmp_path)
    shutil.copytree(FAULTS / "ray2", search, dirs_exist_ok=True)
    second = export(search, target, tmp_path)
    assert [(run.status, run.rows) for run in first] == [("exported", 2)] * 2
    assert [(run.status, run.rows) for run in second] == [("appended", 4)] * 2
    assert [(run.run, run.location) for run in second] == [(run.run, run.location) for run in first]
    assert [run.run.rpartition("/")[2] for run in second] == TRIALS


def test_raw_keys_that_mlflow_refuses_are_kept(tmp_path: Path) -> None:
    (run,) = export(FAULTS / "st_at", "mlflow", tmp_path, naming="raw")
    assert (run.points, "key-refused" in [finding.code for finding in run.findings]) == (20, False)


def test_a_pattern_in_a_config_names_files_of_any_name(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    logdir = tmp_path / "tb"
    config.write_text(
        f"sources: ['{FAULTS}/flat/*.json']\ntargets: [{{to: tensorboard, logdir: '{logdir}'}}]\n"
    )
    assert bridge(["migrate", str(config), "--quiet", "--workers", "1"]) == 0
    assert sorted(path.name for path in logdir.iterdir() if path.is_dir()) == ["alpha", "beta"]


def test_the_rows_before_zero_bytes_are_salvaged() -> None:
    report = bridges.export(FAULTS / "halfnul", to="memory", salvage=True)
    assert [(run.status, run.rows, run.points) for run in report.runs] == [("exported", 4, 20)]
