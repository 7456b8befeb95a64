"""Offline W&B runs: equal to what the live callback logged, as wandb's protocol buffers read it."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.errors import ConfigError
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.formats.wandb_log.log import LogError, write_log
from bridges.formats.wandb_log.reader import read_log
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.testing.exporters import ROWS
from tests import kills
from tests.bounds import HANGS
from tests.integration.exporters.mlflow.support import long_history
from tests.integration.exporters.wandb.support import (
    GROUNDTRUTH,
    SCENARIOS,
    TIMES,
    export,
    file_of,
    items_of,
    of_kind,
    parsed,
    rows_of,
    without,
)
from tests.support import DATA, make_run, read_one

# rows that the live run had and its last state has not: what a crash or a trial threw away, and
# predictions; in `odd_values` one row has a metric of the user's that is named `step`
LIVE_ONLY = {
    "crash_resume_new_run": 5,
    "crash_resume_same_run": 5,
    "hp_search_unnamed": 1,
    "steps_eval_predict": 2,
    "odd_values": 1,
}


def live_rows(scenario: str) -> list[dict[str, Any]]:
    """The history rows of the live callback, nested keys joined again."""
    rows = []
    for line in (GROUNDTRUTH / scenario / "wandb.jsonl").read_text().splitlines():
        run, _, items = json.loads(line)
        if run == "summary":
            continue
        row: dict[str, Any] = {}
        for path, text in items:
            place = row
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = json.loads(text)
        rows.append(row)
    return rows


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_rows_are_those_of_the_live_callback(scenario: str, tmp_path: Path) -> None:
    ours: Counter[str] = Counter()
    for number, file in enumerate(sorted((GROUNDTRUTH / scenario).rglob("trainer_state.json"))):
        assert export(read_one(file), tmp_path / str(number)).verified
        rows = rows_of(file_of(tmp_path / str(number)))
        ours.update(without(row, "_step", *TIMES) for row in rows)
        assert [row["_step"] for row in rows] == list(range(len(rows)))
    live = Counter(without(row, "_step", *TIMES) for row in live_rows(scenario))
    assert sum((live - ours).values()) == LIVE_ONLY.get(scenario, 0)
    assert sum((ours - live).values()) == (1 if scenario == "odd_values" else 0)


# of the others the live run has several summaries (a search, a crash) or one of predictions too
@pytest.mark.parametrize(
    "scenario", ["epoch_two_eval_sets", "nan_loss", "odd_values", "token_counts"]
)
def test_the_summary_is_that_of_the_live_callback(scenario: str, tmp_path: Path) -> None:
    export(read_one(GROUNDTRUTH / scenario / "trainer_state.json"), tmp_path)
    (summary,) = of_kind(file_of(tmp_path), "summary")
    ours = flat(items_of(summary.update))
    lines = (GROUNDTRUTH / scenario / "wandb.jsonl").read_text().splitlines()
    (live,) = [found for kind, _, found in map(json.loads, lines) if kind == "summary"]
    live = {key: json.loads(value) for key, value in live.items()}
    # a metric of the user that is named `step` is lost in any history
    assert without(ours, "_wandb/runtime", *TIMES) == without(live, "train/step", *TIMES)


def flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Objects as their paths, as the record of the live run has them."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        is_object = isinstance(value, dict)
        found |= flat(value, f"{before}{key}/") if is_object else {f"{before}{key}": value}
    return found


def test_the_config_is_that_of_the_live_callback(tmp_path: Path) -> None:
    folder = GROUNDTRUTH / "token_counts"
    (run,) = RunDirectorySource().read(str(folder), ReadOptions())
    assert export(run, tmp_path).verified
    (record,) = of_kind(file_of(tmp_path), "run")
    ours = items_of(record.config.update)
    live = json.loads((folder / "wandb_config.json").read_text())
    live = {key: json.loads(text) for key, text in live.items()}
    own = {"bridges", "bridges_key", "train_batch_size"}  # the last is the state's
    assert ours.keys() - live.keys() == own
    # defaults of the model's class, which its file leaves out; and what only the model knows
    assert live.keys() - ours.keys() == {
        *("_name_or_path", "chunk_size_feed_forward", "id2label", "is_encoder_decoder", "label2id"),
        *("output_attentions", "output_hidden_states", "return_dict", "model/num_parameters"),
    }
    different = {key for key in ours.keys() & live.keys() if ours[key] != live[key]}
    assert different == {"architectures", "dtype", "problem_type"}  # set when it is saved


def test_the_records_are_those_of_a_run(tmp_path: Path) -> None:
    run = make_run(
        ROWS,
        params={"lr": 1e-5, "inf": float("inf"), "nan": float("nan"), "deep": {"a": [1]}},
        tags={"team": "x", "old": ""},
        group="many",
        status="finished",
    )
    export(run, tmp_path, project="p", entity="e")
    found = parsed(file_of(tmp_path))
    kinds = [record.WhichOneof("record_type") for record in found]
    body = ["history"] * len(ROWS)
    metrics = ["metric"] * (2 + 11)  # the axis, the pattern, and one for each key
    assert kinds == ["header", "run", *metrics, *body, "files", "summary", "exit", "final"]
    assert [record.num for record in found] == list(range(1, len(found) + 1))
    head = found[1].run
    assert (head.project, head.entity, head.display_name, head.run_group) == (
        "p",
        "e",
        "run",
        "many",
    )
    assert (list(head.tags), head.start_time.seconds) == (["team:x", "old"], 946_684_800)
    assert found[1].control.mailbox_slot  # `wandb sync` 0.28 waits for ever without
    config = items_of(head.config.update)
    assert config["lr"] == 1e-5
    assert (config["inf"], config["nan"], config["deep"]) == ("inf", None, {"a": [1]})
    assert (found[2].metric.name, found[3].metric.glob_name) == ("train/global_step", "*")
    assert found[3].metric.step_metric == "train/global_step"
    assert found[3].metric.options.step_sync
    assert (found[-2].exit.exit_code, found[-2].exit.runtime) == (0, 9)
    assert {metric.metric.step_metric for metric in found[4:15]} == {"train/global_step"}
    assert file_of(tmp_path).parent.name.startswith("offline-run-20000101_000000-")


def test_an_epoch_axis_is_a_defined_metric(tmp_path: Path) -> None:
    options = ExportOptions(layout=LayoutOptions(x_axis="epoch"))
    assert export_run(
        make_run(ROWS), WandbExporter(WandbOptions(wandb_dir=str(tmp_path))), options
    ).verified
    metrics = of_kind(file_of(tmp_path), "metric")
    assert [(m.name or m.glob_name, m.step_metric) for m in metrics[:2]] == [
        ("train/epoch", ""),
        ("*", "train/epoch"),
    ]
    assert "train/epoch" not in [m.name for m in metrics[2:]]
    assert [row["train/global_step"] for row in rows_of(file_of(tmp_path))] == [1, 2, 2, 3, 3, 3]


def test_what_stands_in_the_way_is_told(tmp_path: Path) -> None:
    export(make_run(ROWS), tmp_path)
    file = file_of(tmp_path)
    data = file.read_bytes()
    for damaged, message in (
        (data[:5], "does not begin as a W&B transaction log"),
        (data[:40], "it ends within a chunk at byte"),
        (data[:20] + b"?" + data[21:], "is damaged"),
    ):
        file.write_bytes(damaged)
        report = export(make_run(ROWS), tmp_path)
        assert (report.status, message in report.findings[-1].message) == ("failed", True)
    file.write_bytes(data[:-20])  # its head is whole, its end is not
    report = export(make_run(ROWS), tmp_path)
    message = report.findings[-1].message
    assert "cannot be read back: it ends within a chunk" in message
    assert message.endswith("or delete its directory and export the run again.")
    longer = make_run([*ROWS, {"loss": 1.0, "step": 99}])
    finding = export(longer, tmp_path).findings[-1]
    assert finding.message.startswith(f"{file} cannot be read: it ends within a chunk")
    assert file.read_bytes() == data[:-20]
    (tmp_path / "file").write_text("in the way")
    message = export(make_run(ROWS), tmp_path / "file").findings[-1].message
    assert message.endswith("/file is not a directory")


def test_names_that_wandb_has_of_its_own_are_told(tmp_path: Path) -> None:
    run = make_run([{"global_step": 7, "loss": 1.0, "step": 1}])
    report = export(run, tmp_path)
    assert report.verified
    assert [f.where for f in report.findings if f.code == "key-refused"] == [
        "key 'train/global_step'"
    ]
    assert rows_of(file_of(tmp_path))[0]["train/global_step"] == 1


def test_an_export_needs_no_wandb(tmp_path: Path) -> None:
    order = ["export", str(DATA / "seed.txt"), "--to", "wandb", "--wandb-dir", str(tmp_path)]
    code = (
        f"import sys\nfrom bridges.cli.main import run\nassert run({order!r}) == 0\n"
        "assert not {'wandb', 'google'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_to_see(tmp_path: Path) -> None:
    file = long_history(tmp_path, 30_000)
    order = [sys.executable, "-m", "bridges", "export", str(file), "--to", "wandb", "--wandb-dir"]
    subprocess.run([*order, str(tmp_path / "clean")], check=True, capture_output=True)
    clean, place = file_of(tmp_path / "clean").read_bytes(), tmp_path / "x"

    def begin() -> kills.Command:
        shutil.rmtree(place, ignore_errors=True)
        return kills.Command(kills.start([*order, str(place)]), lambda: bool(kills.look(place)))

    def check() -> None:
        for seen in place.glob("wandb/offline-run-*"):
            assert file_of(seen).read_bytes() == clean
        subprocess.run([*order, str(place)], check=True, capture_output=True)
        (whole,) = place.glob("wandb/offline-run-*")
        assert file_of(whole).read_bytes() == clean

    kills.kill_often(25, 5, begin, check)


@pytest.mark.slow
def test_exports_at_the_same_time_make_one_run(tmp_path: Path) -> None:
    file = long_history(tmp_path, 20_000)
    order = [sys.executable, "-m", "bridges", "export", str(file), "--to", "wandb", "--wandb-dir"]
    children = [subprocess.Popen([*order, str(tmp_path / "x")], stdout=-1) for _ in range(4)]
    said = [child.communicate(timeout=HANGS)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0, 0], said
    assert len(rows_of(file_of(tmp_path / "x"))) == 20_000
    visible = [path.name[:11] for path in (tmp_path / "x" / "wandb").glob("[!.]*")]
    assert visible == ["offline-run"]
    assert not any(path.is_dir() for path in (tmp_path / "x" / "wandb" / ".bridges").iterdir())


@given(st.lists(st.one_of(st.binary(max_size=50), st.integers(0, 100_000).map(bytes)), max_size=20))
def test_any_records_survive_the_log(records: list[bytes]) -> None:
    data = b"".join(write_log(records))
    assert list(read_log(data)) == records
    if records:
        with pytest.raises(LogError):
            list(read_log(data[:-1]))


def test_merged_steps_are_one_row_each(tmp_path: Path) -> None:
    report = export(make_run(ROWS), tmp_path, wandb_step="global_step")
    assert report.verified
    rows = rows_of(file_of(tmp_path))
    assert [row["_step"] for row in rows] == [row["train/global_step"] for row in rows] == [1, 2, 3]
    assert (rows[1]["eval/loss"], rows[1]["train/learning_rate"]) == (0.1, 1e-4)
    assert (rows[2]["train/note"], rows[2]["train/loss"]) == ("fine", -0.0)
    assert [f.code for f in report.findings if f.fails] == []
    assert export(make_run(ROWS), tmp_path, wandb_step="global_step").status == "unchanged"
    assert export(make_run(ROWS), tmp_path).status == "exported"  # it is another run


def test_what_a_merge_overwrites_is_a_loss(tmp_path: Path) -> None:
    rows = [{"loss": 1.0, "step": 5}, {"loss": 2.0, "step": 5}, {"loss": 3.0, "step": 2}]
    report = export(make_run(rows), tmp_path, wandb_step="global_step")
    (lost,) = [f for f in report.findings if f.fails]
    assert (lost.code, lost.count, report.verified) == ("merge-overwrites", 1, True)
    assert [(r["_step"], r["train/loss"]) for r in rows_of(file_of(tmp_path))] == [(2, 3), (5, 2)]
    options = ExportOptions(layout=LayoutOptions(duplicates="last"))
    chosen = export_run(
        make_run(rows),
        WandbExporter(WandbOptions(wandb_dir=str(tmp_path), wandb_step="global_step")),
        options,
    )
    assert not [f for f in chosen.findings if f.fails]


@pytest.mark.parametrize(
    ("values", "lost"),
    [
        ([1, 1.0], 0),
        ([1.0, 2.0, 1.0], 1),  # the first one is there
        ([math.nan, math.nan], 0),
        ([2**53 + 1, 2**53], 1),
        (["a", "b"], 1),
        ([1.0, "b"], 1),
        ([[1], [1]], 0),
    ],
    ids=str,
)
def test_values_that_a_merge_overwrites_by_another_one_are_counted(
    values: list[Any], lost: int, tmp_path: Path
) -> None:
    rows = [{"loss": 1.0, "step": 4}, *({"x": value, "step": 5} for value in values)]
    report = export(make_run(rows), tmp_path, wandb_step="global_step")
    assert [f.count for f in report.findings if f.code == "merge-overwrites"] == [lost] * bool(lost)


def test_job_type_and_times_are_there(tmp_path: Path) -> None:
    export(make_run(ROWS), tmp_path, job_type="train")
    (run,) = of_kind(file_of(tmp_path), "run")
    assert run.job_type == "train"
    config = items_of(run.config.update)
    assert config["bridges"]["started"] == "2000-01-01T00:00:00+00:00"
    assert config["bridges"]["ended"] == "2000-01-01T00:00:09.502000+00:00"
    (files,) = of_kind(file_of(tmp_path), "files")
    assert [(file.path, file.policy) for file in files.files] == [("wandb-metadata.json", 1)]
    metadata = file_of(tmp_path).parent / "files" / "wandb-metadata.json"
    assert json.loads(metadata.read_text()) == {"startedAt": "2000-01-01T00:00:00+00:00"}


@pytest.mark.parametrize("project", ["a/b", "a#b", "x" * 129])
def test_a_project_that_wandb_refuses_is_told(project: str) -> None:
    with pytest.raises(ConfigError, match="is not a legal W&B project name"):
        WandbExporter(WandbOptions(project=project))


def test_a_folder_holds_a_run_once_for_each_project(tmp_path: Path) -> None:
    """Runs of one folder are told apart by their ids: the second project's gets a suffix."""
    places = [{"project": "one", "entity": "us"}, {"project": "two", "entity": "us"}]
    places += [{"project": "one", "entity": "they"}]
    first = [export(make_run(ROWS), tmp_path, **place) for place in places]
    assert [(run.status, run.verified) for run in first] == [("exported", True)] * 3
    heads = [of_kind(Path(str(run.location)), "run")[0] for run in first]
    assert [{"project": head.project, "entity": head.entity} for head in heads] == places
    assert len({head.run_id for head in heads}) == 3
    assert {head.run_id[:16] for head in heads} == {heads[0].run_id}
    for rows, status in ((ROWS, "unchanged"), ([*ROWS, {"loss": 0.1, "step": 99}], "appended")):
        again = [export(make_run(rows), tmp_path, **place) for place in places]
        assert [(run.status, run.location) for run in again] == [
            (status, run.location) for run in first
        ]
    assert export(make_run(rows), tmp_path, project="one").status == "unchanged"


def test_long_names_and_tags_are_cut_and_told(tmp_path: Path) -> None:
    run = make_run(ROWS, name="n" * 200, tags={"t": "v" * 100})
    report = export(run, tmp_path)
    assert sorted(f.code for f in report.findings if f.code.endswith("-cut")) == [
        "name-cut",
        "tag-cut",
    ]
    (head,) = of_kind(file_of(tmp_path), "run")
    assert (len(head.display_name), len(head.tags[0])) == (128, 64)
    assert report.run == "n" * 128


def test_a_row_that_is_too_long_is_a_loss(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"loss": 1.0, "step": 1},
        {"text": "x" * 11_000_000, "loss": 2.0, "step": 2},
    ]
    report = export(make_run(rows), tmp_path)
    (lost,) = [f for f in report.findings if f.fails]
    assert (lost.code, lost.where, lost.count) == ("row-too-long", "row 1", 2)
    assert report.verified
    assert [row.get("train/loss") for row in rows_of(file_of(tmp_path))] == [1.0, None]


ODD = {
    "nan": float("nan"),
    "inf": float("inf"),
    "minus": -float("inf"),
    "zero": -0.0,
    "big": 2**63 - 1,
    "small": -(2**63),
    "tiny": 5e-324,
    "huge": 1.7976931348623157e308,
    "yes": True,
    "text": "line\nbreak \x00 \u2028 é",
    "lone": "\ud800",
    "none": None,
    "nested": {"a": {"b": [1, 2.5, None]}, "": {}},
    "list": [1, "a", {"x": 1}],
    "k" * 5000: 1.5,
    "a b:c.d/é": 2,
    "": 3.0,
    "\ud800key": 4.0,
}


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_odd_values_survive(writer: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**ODD, "step": 1}, {"loss": 1.0, "step": 2}]
    report = export(make_run(rows), tmp_path, wandb_writer=writer)
    assert report.verified, report.findings
    row = rows_of(file_of(tmp_path))[0]
    assert str(row["train/nan"]) == "nan"
    assert (row["train/inf"], row["train/minus"]) == (float("inf"), -float("inf"))
    assert (row["train/big"], row["train/small"]) == (2**63 - 1, -(2**63))
    assert (row["train/tiny"], row["train/huge"]) == (5e-324, 1.7976931348623157e308)
    assert row["train/nested"]["a"] == {"b": [1, 2.5, None]}
    assert row["train/" + "k" * 5000] == 1.5
    assert row["train/" + "\\ud800key"] == 4.0


def test_ten_thousand_keys(tmp_path: Path) -> None:
    rows = [{f"key{n}": n + step / 10 for n in range(10_000)} | {"step": step} for step in (1, 2)]
    assert export(make_run(rows), tmp_path).verified
    assert [len(row) for row in rows_of(file_of(tmp_path))] == [10_004, 10_004]


def test_many_odd_rows_are_read_as_they_are(tmp_path: Path) -> None:
    chance = random.Random(7)
    names = ["loss", "epoch", "a", "b\x82\x01", "c" * 200, "note"]
    values: list[Any] = [0.5, 7, True, None, "x" * 300, -0.0, 1e300, [1], {"q": 1}]
    rows = [
        {
            **{k: chance.choice(values) for k in chance.sample(names, chance.randrange(6))},
            "step": n * 2**40,
        }
        for n in range(500)
    ]
    assert export(make_run(rows), tmp_path).verified


def test_a_release_that_nobody_tested_writes_its_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packages" / "wandb-0.99.1.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    report = export(make_run(ROWS), tmp_path)
    assert report.verified
    (note,) = [f for f in report.findings if f.code == "written-by-client"]
    assert "wandb 0.99 is not a tested release" in note.message
    assert len(parsed(file_of(tmp_path))) > len(ROWS) + 8  # wandb writes a summary for each row
    direct = export(make_run(ROWS), tmp_path / "direct", wandb_writer="direct")
    assert "written-by-client" not in [f.code for f in direct.findings]


def test_runs_of_others_and_changes_of_others_are_seen(tmp_path: Path) -> None:
    exporter = WandbExporter(WandbOptions(wandb_dir=str(tmp_path)))
    runs = [make_run([{"loss": float(number), "step": 1}]) for number in range(3)]
    first, second, _ = [export_run(run, exporter, ExportOptions()) for run in runs]
    (tmp_path / "wandb" / "offline-run-20240101_000000-abc").mkdir()
    shutil.rmtree(Path(str(first.location)).parent)
    assert export_run(runs[0], exporter, ExportOptions()).status == "exported"
    other = export(make_run([{"loss": 7.0, "step": 1}]), tmp_path)
    assert export_run(make_run([{"loss": 7.0, "step": 1}]), exporter, ExportOptions()).location == (
        other.location
    )
    assert export_run(runs[1], exporter, ExportOptions()).location == second.location
    assert exporter.view_command([str(first.location), str(second.location)], 1) == (
        f"wandb sync {tmp_path}/wandb/offline-run-*"
    )


def test_a_release_that_would_overwrite_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packages" / "wandb-0.24.2.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    assert export(make_run(ROWS[:3]), tmp_path).verified
    Path(f"{file_of(tmp_path)}.synced").touch()
    report = export(make_run(ROWS), tmp_path)
    assert report.status == "failed"
    assert "wandb 0.24 is installed; its sync would overwrite" in report.findings[-1].message
    online = export(make_run(ROWS), tmp_path, mode="online")
    assert "wandb 0.24 is installed; its sync would overwrite" in online.findings[-1].message
    monkeypatch.undo()
    report = export(make_run(ROWS), tmp_path)
    assert (report.status, report.verified) == ("appended", True)
    hint = WandbExporter(WandbOptions(wandb_dir=str(tmp_path))).view_command([report.location], 1)
    folder = Path(report.location).parent
    assert hint == f"wandb sync {folder}  # requires wandb 0.28 or later"


def test_steps_below_zero_are_no_steps_of_wandb(tmp_path: Path) -> None:
    run = make_run([{"loss": 1.0, "step": -5}, {"loss": 2.0, "step": 3}])
    report = export(run, tmp_path, wandb_step="global_step")
    assert (report.status, "steps below 0" in report.findings[-1].message) == ("failed", True)
    assert export(run, tmp_path).verified  # as a row's index they do not matter
    assert [row["train/global_step"] for row in rows_of(file_of(tmp_path))] == [-5, 3]


def test_lists_of_one_length_stay_lists(tmp_path: Path) -> None:
    rows = [{"loss": [[1, 2], [3, 4]], "x": [5], "step": step} for step in range(40)]
    assert export(make_run(rows), tmp_path).verified
