"""Event files through the command line, Python, migrations and `--follow`."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

import bridges
from bridges.cli.main import run as bridge
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.follow import Following
from bridges.pipeline.options import ExportOptions, Pace
from tests.event_files import START, borders, histogram, hparams, losses, tagged, write
from tests.support import state

LATER = START + 1000


def run(*arguments: str | Path, code: int = 0) -> str:
    """The output of a command; with errors, unless it is JSON."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        ended = bridge([*map(str, arguments)])
    assert ended == code, err.getvalue() + out.getvalue()
    return out.getvalue() if "--json" in arguments else out.getvalue() + err.getvalue()


def listed(*arguments: str | Path) -> list[str]:
    return [row["name"] for row in json.loads(run("ls", *arguments, "--json"))["runs"]]


def mlflow(folder: Path) -> list[str]:
    return ["--to", "mlflow", "--tracking-uri", f"sqlite:///{folder / 'target.db'}"]


def query(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "target.db")) as connection:
        return connection.execute(statement).fetchall()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A log directory: two trainings, a run of two directories, params, and a histogram."""
    folder = tmp_path / "logs"
    for at in (START, LATER):
        write(folder / "ppo", losses(at, range(4)), at=at)
    for number, split in enumerate(("train", "validation")):
        name = f"events.out.tfevents.1.host.7.{number}.v2"
        write(folder / "keras" / split, losses(START + number / 10, range(3)), name=name)
    events = [hparams(START, lr=0.5), *losses(START + 7, range(3)), histogram(START, 1, "w")]
    write(folder / "lightning_logs" / "version_3", events)
    return folder


def test_a_tree_is_listed_and_inspected(logs: Path) -> None:
    names = ["keras", "lightning_logs/version_3", "ppo", "ppo/2"]
    assert listed(logs) == names
    assert listed(logs, "--one-run") == listed(logs, "--runs", "one") == names[:3]
    assert listed(logs, "--runs", "directory") == [
        *("keras/train", "keras/validation", "lightning_logs/version_3", "ppo")
    ]
    page = run("inspect", logs)
    assert page.count("rows") == 4
    assert "version_3" in page
    (file,) = (logs / "lightning_logs" / "version_3").iterdir()
    page = run("inspect", file)
    assert "read as an event file" in " ".join(page.split())
    assert "lr=0.5" in page
    assert "transformers" not in page


def test_two_values_of_one_option_are_refused(logs: Path) -> None:
    assert "--one-run means --runs one" in run(
        "ls", logs, "--one-run", "--runs", "directory", code=2
    )


def test_metrics_params_and_times_reach_mlflow(logs: Path, tmp_path: Path) -> None:
    report = json.loads(run("export", logs, *mlflow(tmp_path), "--json"))
    assert [each["status"] for each in report["runs"]] == ["exported"] * 4
    assert all(each["verified"] for each in report["runs"])
    again = json.loads(run("export", logs, *mlflow(tmp_path), "--json"))
    assert [each["status"] for each in again["runs"]] == ["unchanged"] * 4
    of_keras = (
        "select key, step, timestamp from metrics join runs using (run_uuid) where name = 'keras'"
        " order by timestamp"
    )
    base = round(START * 1000)
    expected = [
        (f"{split}/loss", step, base + 1000 * step + offset)
        for step in range(3)
        for split, offset in (("train", 0), ("validation", 100))
    ]
    assert query(tmp_path, of_keras) == expected
    assert query(tmp_path, "select key, value from params") == [("lr", "0.5")]


@pytest.mark.parametrize("targets", ["tensorboard", "tensorboard,csv"])
def test_runs_of_one_file_are_counted(tmp_path: Path, targets: str) -> None:
    """A resume gives a second run, whose source is the same file."""
    write(tmp_path / "logs" / "a", losses(START, range(10)))
    write(tmp_path / "logs" / "a", losses(LATER, [3, 4, 5]), at=LATER)
    options: list[str | Path] = [
        "--to",
        targets,
        "--logdir",
        tmp_path / "out",
        "--superseded",
        "keep",
    ]
    if "csv" in targets:
        options += ["--out", tmp_path / "tables"]
    output = run("export", tmp_path / "logs", *options)
    count = len(targets.split(","))
    title = "2 runs" if count == 1 else f"2 runs × {count} targets"
    assert f"{title}: {2 * count} exported; {16 * count} points." in output


def damage(folder: Path) -> dict[str, str]:
    """A file of each kind of damage, with the reason that is given for it (empty: a note)."""
    good = write(folder / "spare", losses(START, range(6))).read_bytes()
    (folder / "spare" / f"events.out.tfevents.{int(START)}.host.7.0").unlink()
    ends = borders(good)

    def flipped(at: int) -> bytes:
        return good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]

    contents = {
        "empty": (b"", ""),
        "header only": (good[: ends[1]], ""),
        "25 bytes": (good[:25], ""),
        "zeros": (bytes(300), ""),
        "apple double": (b"\0\5\x16\7\0\2\0\0Mac OS X        ", ""),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid x\n", "git lfs pull"),
        "data": (flipped(ends[3] - 10), "the CRC of its data is wrong"),
        "length": (flipped(ends[2]), "the CRC of its length is wrong"),
        "crc of data": (flipped(ends[3] - 1), "the CRC of its data is wrong"),
        "gzip": (b"\x1f\x8b broken", "gzip data that is broken"),
    }
    for name, (content, _) in contents.items():
        path = folder / name / "events.out.tfevents.1.host.9.0"
        path.parent.mkdir()
        path.write_bytes(content)
    return {name: reason for name, (_, reason) in contents.items()}


def test_damaged_files_are_named_and_all_others_are_exported(tmp_path: Path) -> None:
    logs, out = tmp_path / "logs", tmp_path / "out"
    reasons = damage(logs)
    whole = {
        "torn": write(logs / "torn", losses(START + 1, range(6))),
        "zero tail": write(logs / "zero tail", losses(START + 2, range(6))),
        "joined": write(logs / "joined", losses(START + 3, range(6))),
    }
    whole["torn"].write_bytes(whole["torn"].read_bytes()[:-5])
    whole["zero tail"].write_bytes(whole["zero tail"].read_bytes() + bytes(4096))
    second = write(tmp_path / "second", losses(START + 60, range(6, 9))).read_bytes()
    whole["joined"].write_bytes(whole["joined"].read_bytes() + second)
    for status in ("exported", "unchanged"):
        text = run("export", logs, "--to", "tensorboard", "--logdir", out, "--json", code=1)
        runs = json.loads(text)["runs"]
        found = {each["run"]: each for each in runs if each["status"] != "failed"}
        assert {name: each["points"] for name, each in found.items()} == {
            **{"torn": 5, "zero tail": 6, "joined": 9}
        }
        assert {each["status"] for each in found.values()} == {status}
        assert all(each["verified"] for each in found.values())
        codes = {name: [each["code"] for each in run["findings"]] for name, run in found.items()}
        assert [name for name, each in codes.items() if "record-torn" in each] == ["torn"]
        failed = {
            Path(each["source"]).parent.name: str(each["findings"])
            for each in runs
            if each["status"] == "failed"
        }
        assert failed.keys() == {name for name, reason in reasons.items() if reason}
        assert all(reasons[name] in told for name, told in failed.items())
        notes = [each for run in found.values() for each in run["findings"]]
        counts = {each["code"]: each["count"] for each in notes if each["where"] == str(logs)}
        assert counts == {"events-empty": 4, "not-event-files": 1}


def test_refused_characters_are_deleted_and_kept_in_a_tag(tmp_path: Path) -> None:
    events = [tagged(START, 1, "metrics/mAP50(B)", 0.5), tagged(START, 1, "% time", 2)]
    write(tmp_path / "logs" / "yolo", events)
    (report,) = json.loads(run("export", tmp_path / "logs", *mlflow(tmp_path), "--json"))["runs"]
    (renamed,) = (each for each in report["findings"] if each["code"] == "key-renamed")
    assert (renamed["count"], renamed["severity"]) == (2, "warning")
    assert sorted(query(tmp_path, "select key from metrics")) == [(" time",), ("metrics/mAP50B",)]
    ((tag,),) = query(tmp_path, "select value from tags where key = 'bridges.renamed'")
    assert json.loads(tag) == {"metrics/mAP50B": "metrics/mAP50(B)", " time": "% time"}
    assert "unchanged" in run("export", tmp_path / "logs", *mlflow(tmp_path))


def test_keys_with_one_name_in_mlflow_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "a", [tagged(START, 1, "acc(B)", 1), tagged(START, 1, "accB", 2)])
    write(tmp_path / "logs" / "b", losses(START, range(2)))
    output = run("export", tmp_path / "logs", *mlflow(tmp_path), code=1)
    assert "'acc(B)' and 'accB' are both called 'accB'" in output
    assert query(tmp_path, "select name from runs") == [("b",)]


def test_event_files_of_a_trainer_stay_evidence(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    out.mkdir(parents=True)
    (out / "trainer_state.json").write_bytes(
        state([{"loss": 1.0, "step": 1}, {"loss": 2.0, "step": 2}])
    )
    write(out / "runs" / "a", losses(START, [1, 2], "train/loss"))
    write(tmp_path / "other", losses(START, range(3)))
    assert listed(tmp_path) == ["out"]
    assert "--source tensorboard" in " ".join(run("inspect", tmp_path).split())
    assert listed(tmp_path, "--from", "tensorboard") == ["a/out/runs/a", "other"]


def test_a_migration_reads_a_directory_again_only_if_it_changed(logs: Path, tmp_path: Path) -> None:
    config = {
        "sources": [{"location": str(logs), "source": "tensorboard"}],
        "targets": [{"to": "tensorboard", "logdir": str(tmp_path / "out")}],
    }
    path = tmp_path / "migration.yaml"
    path.write_text(yaml.safe_dump(config))
    first = json.loads(run("migrate", path, "--json", "--workers", "1"))
    assert [each["status"] for each in first["runs"]] == ["exported"] * 4
    write(logs / "ppo", losses(LATER + 50, range(4, 6)), at=LATER + 50)
    second = json.loads(run("migrate", path, "--json", "--workers", "1"))
    statuses = {each["run"]: each["status"] for each in second["runs"]}
    assert statuses.pop("ppo/2") == "appended"
    assert {*statuses.values()} == {"unchanged"}


def test_a_growing_run_is_followed(tmp_path: Path) -> None:
    folder, target = tmp_path / "logs" / "run", MemoryExporter()
    contents = write(folder, losses(START, range(9))).read_bytes()
    (file,) = folder.iterdir()
    polls = iter(range(0, len(contents), 37))
    file.write_bytes(contents[: next(polls)])

    def wait(seconds: float) -> bool:
        end = next(polls, None)
        file.write_bytes(contents if end is None else contents[:end])
        return end is None

    following = Following(
        [str(tmp_path / "logs")], [target], ExportOptions(), Pace(interval=0.01), wait=wait
    )
    report = following.run()
    assert {each.status for each in report.runs} <= {"exported", "appended", "unchanged"}
    assert len(target.runs) == 1
    (run,) = bridges.read(str(tmp_path / "logs"))
    (again,) = bridges.export(str(tmp_path / "logs"), to=target).runs
    assert (again.status, again.rows) == ("unchanged", len(run.stream))
