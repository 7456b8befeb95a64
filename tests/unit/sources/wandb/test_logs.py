"""Logs of W&B runs in all states (torn, empty, damaged, copied, resumed, shared), and labels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bridges.errors import SourceError
from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.wandb.source import WandbSource
from bridges.stream.finding import Severity
from bridges.stream.identity import identity_of, prefix_digest
from bridges.stream.model import Run
from tests.support import codes
from tests.wandb_logs import (
    exit_record,
    log_of,
    row_record,
    run_record,
    stats_record,
    summary_record,
    write_run,
)
from tests.wandb_runs import unpack_runs

START = 1_700_000_000


def read(location: Path, **options: Any) -> list[Run]:
    """The runs at a location."""
    return [*WandbSource().read(str(location), ReadOptions(**options))]


def rows(first: int, stop: int, **more: object) -> list[bytes]:
    """Rows with these steps."""
    return [
        row_record({"loss": at + 0.5, "_step": at, "_timestamp": START + at, **more})
        for at in range(first, stop)
    ]


def test_a_growing_log_keeps_its_key_and_its_first_rows(tmp_path: Path) -> None:
    path = write_run(tmp_path, [run_record(project="p"), *rows(0, 400), exit_record()])
    data = path.read_bytes()
    (whole,) = read(path)
    assert "torn-tail" not in codes(whole)
    for size in (*range(len(data) - 300, len(data), 7), len(data) // 2):
        path.write_bytes(data[:size])
        (run,) = read(path)
        assert identity_of(run).key == identity_of(whole).key
        count = len(run.stream)
        assert prefix_digest(run.stream, count) == prefix_digest(whole.stream, count)
        assert run.status == "unfinished"
        assert codes(run).count("no-exit") == 1
    path.write_bytes(data[: len(data) // 2])
    (run,) = read(path, growing=True)
    assert run.status == "running"
    (found,) = [finding for finding in run.findings if finding.code == "torn-tail"]
    assert found.severity is Severity.INFO


def test_a_damaged_log_loses_its_damaged_block_only(tmp_path: Path) -> None:
    path = write_run(tmp_path, [run_record(), *rows(0, 2000), exit_record()])
    data = bytearray(path.read_bytes())
    data[40_000] ^= 1
    path.write_bytes(data)
    (run,) = read(path)
    assert 1000 < len(run.stream) < 2000
    assert run.stream.step[-1] == 1999
    (found,) = [finding for finding in run.findings if finding.code == "damaged-log"]
    assert found.severity is Severity.LOSS
    assert found.count > 1000


@pytest.mark.parametrize("content", [b"", b":W&B\xe1\xbe\x00", b":W&"])
def test_an_empty_log_is_a_note_beside_others_and_an_error_alone(
    content: bytes, tmp_path: Path
) -> None:
    empty = write_run(tmp_path, [], "empty")
    empty.write_bytes(content)
    with pytest.raises(MissingSourceError, match="without rows"):
        read(tmp_path)
    write_run(tmp_path, [run_record(), *rows(0, 2), exit_record()], stamp=1)
    (run,) = read(tmp_path)
    assert [f.where for f in run.findings if f.code == "empty-log"] == [str(empty)]


@pytest.mark.parametrize("content", [b"hello", b"version https://git-lfs.github.com/spec/v1\n"])
def test_another_file_is_an_error_that_names_it_and_the_others_are_read(
    content: bytes, tmp_path: Path
) -> None:
    other = write_run(tmp_path, [], "other")
    other.write_bytes(content)
    write_run(tmp_path, [run_record(), *rows(0, 2), exit_record()], stamp=1)
    source = WandbSource().read(str(tmp_path), ReadOptions())
    assert next(source).name == "abc"
    with pytest.raises(SourceError, match=r"run-other\.wandb"):
        next(source)


def test_an_online_resume_is_one_run(tmp_path: Path) -> None:
    first = [run_record(config={"lr": 1, "a": 1}, tags=["x"]), *rows(0, 4)]
    write_run(tmp_path, first, stamp=1)
    second = [run_record(config={"lr": 2}, start=START + 9), *rows(4, 8), exit_record(0)]
    write_run(tmp_path, second, stamp=2)
    (run,) = read(tmp_path)
    assert run.stream.step.tolist() == [*range(8)]
    assert "resumed-overlap" not in codes(run)
    assert run.params == {"lr": 2, "a": 1}
    assert (dict(run.tags), run.status) == ({"x": ""}, "finished")
    assert run.start == START * 1_000_000


@pytest.mark.parametrize(
    ("logged", "steps"), [([0, 1], [3, 4]), ([2, 9], [3, 9]), ([7, 3], [7, 8]), ([5, 6], [5, 6])]
)
def test_an_offline_resume_is_numbered_on_as_wandb_sync_does_it(
    logged: list[int], steps: list[int], tmp_path: Path
) -> None:
    write_run(tmp_path, [run_record(resume=True), *rows(0, 3), exit_record()], stamp=1)
    own = [record for step in logged for record in rows(step, step + 1)]
    second = [run_record(start=START + 9, resume=True), *own, exit_record()]
    write_run(tmp_path, second, stamp=2)
    (run,) = read(tmp_path)
    assert run.stream.step.tolist() == [0, 1, 2, *steps]
    found = [finding.count for finding in run.findings if finding.code == "resumed-steps"]
    changed = sum(own != step for own, step in zip(logged, steps, strict=True))
    assert found == [changed] * bool(changed)
    assert "resumed-overlap" not in codes(run)


def test_without_resume_the_steps_of_a_second_log_stay(tmp_path: Path) -> None:
    for stamp in (1, 2):
        write_run(tmp_path, [run_record(start=START + stamp), *rows(0, 2)], stamp=stamp)
    (run,) = read(tmp_path)
    assert run.stream.step.tolist() == [0, 1, 0, 1]
    assert codes(run).count("resumed-overlap") == 1


def test_an_empty_first_directory_is_no_run(tmp_path: Path) -> None:
    write_run(tmp_path, [run_record()], stamp=1)
    write_run(tmp_path, [run_record(start=START + 5), *rows(0, 3), exit_record()], stamp=2)
    (run,) = read(tmp_path)
    assert len(run.stream) == 3
    assert "resumed-overlap" not in codes(run)


@pytest.mark.parametrize(("end", "count"), [([exit_record()], 1), ([], 0)])
def test_a_run_of_summary_values_alone_is_read_once_it_has_ended(
    end: list[bytes], count: int, tmp_path: Path
) -> None:
    """wandb-core writes the summary of a row before the row."""
    write_run(tmp_path, [run_record("other"), *rows(0, 1), exit_record()], "other")
    write_run(tmp_path, [run_record(), summary_record({"best": 0.5}), *end])
    assert [run.name for run in read(tmp_path)].count("abc") == count


def test_a_copied_latest_run_is_left_out_and_a_link_is_no_copy(tmp_path: Path) -> None:
    path = write_run(tmp_path, [run_record(), *rows(0, 3), exit_record()])
    latest = tmp_path / "wandb" / "latest-run"
    latest.symlink_to(path.parent.name)
    (run,) = read(tmp_path)
    assert run.source == str(path)
    assert "duplicate-directory" not in codes(run)
    latest.unlink()
    shutil.copytree(path.parent, latest)
    (copy := latest / path.name).write_bytes(log_of([run_record(), *rows(0, 2)]))
    (run,) = read(tmp_path)
    assert len(run.stream) == 3
    (found,) = [finding for finding in run.findings if finding.code == "duplicate-directory"]
    assert found.where == str(copy)


def test_rows_of_several_writers_are_sorted_by_time_and_numbered(tmp_path: Path) -> None:
    for writer in (0, 1):
        own = [
            row_record({f"loss/{writer}": at + 0.5, "_timestamp": START + 2 * at + writer})
            for at in range(3)
        ]
        write_run(tmp_path, [run_record(start=START + writer), *own], stamp=writer)
    (run,) = read(tmp_path)
    assert run.stream.step.tolist() == [*range(6)]
    assert run.stream.column("loss/1")[0].tolist() == [1, 3, 5]
    assert run.stream.time is not None
    assert (run.stream.time[1:] > run.stream.time[:-1]).all()
    assert codes(run).count("shared-no-step") == 1


def test_a_nested_value_and_a_key_with_a_dot_stay_apart(tmp_path: Path) -> None:
    row = row_record({("a", "b"): 1, "a.b": 2, "_step": 0, "_timestamp": START})
    (run,) = read(write_run(tmp_path, [run_record(), row, exit_record()]))
    (values,) = run.stream
    assert values["a.b"] == 2
    assert sorted(value for key, value in values.items() if key.startswith("a.b-")) == [1]
    assert codes(run).count("nested-key-taken") == 1


def test_objects_without_a_type_are_metrics_and_media_are_not(tmp_path: Path) -> None:
    own = {"_step": 0, "_timestamp": START}
    image = {("img", "_type"): "image-file", ("img", "width"): 3, ("img", "sub", "x"): 1}
    core = row_record({**image, ("box", "width"): 4, "loss": 0.5, **own})
    early = row_record(
        {"img": {"_type": "image-file", "width": 3}, "box": {"width": 4}, "loss": 0.5, **own},
        is_core=False,
    )
    for number, record in enumerate((core, early)):
        (run,) = read(write_run(tmp_path / str(number), [run_record(), record, exit_record()]))
        assert {*run.stream.keys} == {"box.width", "loss"}
        assert "media-skipped" in codes(run)


@pytest.mark.parametrize(("code", "status"), [(0, "finished"), (1, "failed"), (255, "killed")])
def test_the_status_is_that_of_the_exit(code: int, status: str, tmp_path: Path) -> None:
    (run,) = read(write_run(tmp_path, [run_record(), *rows(0, 1), exit_record(code)]))
    assert run.status == status


def test_rounded_integers_and_masked_secrets_are_counted(tmp_path: Path) -> None:
    config = {"hub_token": "hf_" + "a" * 34, "key": "sk-" + "b" * 40}
    row = row_record({"n": 2**64, "loss": 0.5, "_step": 0, "_timestamp": START})
    (run,) = read(write_run(tmp_path, [run_record(config=config), row, exit_record()]))
    assert run.stream.column("n")[1].tolist() == [2.0**64]
    counts = {finding.code: finding.count for finding in run.findings}
    assert counts["integer-beyond-int64"] == 1
    assert counts["secret-masked"] == 2


@pytest.mark.parametrize("is_core", [True, False])
def test_a_run_without_rows_ends_after_its_duration(is_core: bool, tmp_path: Path) -> None:
    from wandb.proto import wandb_internal_pb2 as pb

    own = pb.Record()
    item = own.summary.update.add(value_json="90" if is_core else '{"runtime": 90}')
    item.nested_key.extend(["_wandb", "runtime"] if is_core else ["_wandb"])
    records = [run_record(), summary_record({"best": 0.5}, is_user=True)]
    path = write_run(tmp_path, [*records, bytes(own.SerializeToString()), exit_record()])
    (run,) = read(path)
    assert (run.start, run.end) == (START * 1_000_000, (START + 90) * 1_000_000)


def test_secrets_and_home_directories_are_masked(tmp_path: Path) -> None:
    config = {"hub_token": "hf_" + "a" * 34, "_wandb": {"e": {"x": {"email": "a@b.c"}}}}
    records = [
        run_record(config={**config, "out": "/home/anna/x"}, host="secret-host"),
        *rows(0, 1),
        summary_record({"best": 0.5, "api_key": "sk-" + "b" * 40}, is_user=True),
        exit_record(),
    ]
    path = write_run(tmp_path, records)
    (run,) = read(path)
    assert run.params == {"hub_token": "<HUB_TOKEN>", "out": "/home/anna/x"}
    assert run.facts["wandb.summary.best"] == 0.5
    assert "sk-" not in repr(run.facts)
    assert "secret-host" not in repr(vars(run))
    (run,) = read(path, redact_home=True)
    assert run.params["out"] == "~/x"


def test_system_metrics_are_rows_of_their_own(tmp_path: Path) -> None:
    first = stats_record(START + 1, {"cpu": 5, "disk.\\.usage": 1.5, "_x": 1})
    stats = [first, stats_record(START + 9, {"cpu": 6})]
    path = write_run(tmp_path, [run_record(), *rows(0, 3), *stats, exit_record()])
    (run,) = read(path, system_metrics=True)
    at, values = run.stream.column("system/cpu")
    assert values.tolist() == [5, 6]
    assert run.stream.step[at].tolist() == [0, 1]
    assert run.stream.column("system/disk..usage")[1].tolist() == [1.5]
    assert run.stream.column("loss")[1].tolist() == [0.5, 1.5, 2.5]


def branched(parent: str, step: int) -> bytes:
    """The record of a run that goes on behind a step of another one, or of itself."""
    from wandb.proto import wandb_internal_pb2 as pb

    record = pb.Record.FromString(run_record(start=START + 99))
    record.run.branch_point.run = parent
    record.run.branch_point.value = step
    return bytes(record.SerializeToString())


def test_rows_behind_a_rewind_are_left_out(tmp_path: Path) -> None:
    first = [run_record(), *rows(0, 3), row_record({"old": 1, "_step": 3, "_timestamp": START})]
    write_run(tmp_path, [*first, *rows(4, 6)], stamp=1)
    write_run(tmp_path, [branched("abc", 1), *rows(2, 4), exit_record()], stamp=2)
    (run,) = read(tmp_path)
    assert run.stream.step.tolist() == [0, 1, 2, 3]
    assert run.stream.column("loss")[1].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert run.stream.keys == ("loss",)
    counts = {finding.code: finding.count for finding in run.findings}
    assert counts["rows-rewound"] == 4
    assert not {"forked-run", "resumed-overlap"} & {*counts}
    assert "wandb.forked_from" not in run.facts


def test_a_fork_names_its_parent(tmp_path: Path) -> None:
    (run,) = read(write_run(tmp_path, [branched("parent", 2), *rows(3, 5)]))
    assert run.facts["wandb.forked_from"] == "parent"
    assert "forked-run" in codes(run)
    assert run.stream.step.tolist() == [3, 4]


def test_runs_are_selected(tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two")):
        record = run_record(name, display_name=name, project="vision", tags=[name])
        write_run(tmp_path, [record, *rows(0, 1), exit_record(number)], name, number)
    for pattern in ("run=two", "tag.two=*", "status=failed"):
        assert [run.name for run in read(tmp_path, select=(pattern,))] == ["two"]
    assert len(read(tmp_path, select=("experiment=vision",))) == 2
    with pytest.raises(MissingSourceError, match="none of them selected"):
        read(tmp_path, select=("experiment=other",))


def test_relative_paths_and_single_directories_are_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, [run_record(), *rows(0, 1), exit_record()])
    for place in (path, path.parent, path.parent.parent, tmp_path):
        assert [run.name for run in read(place)] == ["abc"]
        assert WandbSource().claims(str(place))
    assert not WandbSource().claims(str(tmp_path / "nothing"))
    assert not WandbSource().claims(os.fspath(Path(__file__).parent))


@pytest.mark.parametrize(("own", "group"), [({}, "sweep1"), ({"run_group": "mine"}, "mine")])
def test_the_sweep_is_the_group_of_runs_without_one(
    own: dict[str, Any], group: str, tmp_path: Path
) -> None:
    record = run_record(sweep_id="sweep1", **own)
    (run,) = read(write_run(tmp_path, [record, *rows(0, 1), exit_record()]))
    assert run.group == group
    assert run.facts["wandb.sweep_id"] == "sweep1"


def test_a_remote_folder_is_read(tmp_path: Path) -> None:
    import fsspec

    path = write_run(tmp_path, [run_record(), *rows(0, 3), exit_record()])
    files = fsspec.filesystem("memory")
    files.pipe("/runs/wandb/offline-run-20240101_000000-abc/run-abc.wandb", path.read_bytes())
    folder = "memory://runs/wandb"
    for place in (folder, f"{folder}/offline-run-20240101_000000-abc/run-abc.wandb"):
        (run,) = WandbSource().read(place, ReadOptions())
        assert len(run.stream) == 3


def test_all_kinds_of_runs_are_read_from_a_remote_folder(tmp_path: Path) -> None:
    """Resumed runs, a copied `latest-run`, and runs of JSON lines; they are the local ones."""
    import fsspec

    for release in ("0.9.7", "0.31.0"):
        folder = unpack_runs(release, tmp_path / release)
        newest = sorted(folder.iterdir())[-1]
        shutil.copytree(newest, folder / "latest-run")
        files = fsspec.filesystem("memory")
        files.put(str(folder), f"/all-{release}/wandb", recursive=True)
        remote = WandbSource().read(f"memory://all-{release}/wandb", ReadOptions())
        found, local = ({run.name: run for run in runs} for runs in (remote, read(folder)))
        assert found.keys() == local.keys()
        for name, run in found.items():
            identity, expected = identity_of(run), identity_of(local[name])
            assert (identity.key, identity.digest) == (expected.key, expected.digest)
        copies = [f for run in found.values() for f in run.findings]
        assert [f.code for f in copies].count("duplicate-directory") == 1


def test_an_early_run_cut_at_any_byte_is_the_beginning_of_its_run(tmp_path: Path) -> None:
    (place,) = unpack_runs("0.9.7", tmp_path).glob("*-id-steps")
    history = place / "wandb-history.jsonl"
    content = history.read_bytes()
    (whole,) = read(place)
    counts = set()
    for size in range(content.index(b"\n"), len(content)):
        history.write_bytes(content[:size])
        (run,) = read(place)
        counts.add(count := len(run.stream))
        assert identity_of(run).key == identity_of(whole).key
        assert prefix_digest(run.stream, count) == prefix_digest(whole.stream, count)
        is_cut = content[size - 1 : size] != b"\n" and content[size : size + 1] != b"\n"
        assert ("torn-tail" in codes(run)) == is_cut
    assert counts == {*range(1, len(whole.stream) + 1)}


def test_one_id_in_two_projects_is_two_runs(tmp_path: Path) -> None:
    for number, project in enumerate(("one", "two")):
        record = run_record(project=project, start=START + number)
        write_run(tmp_path, [record, *rows(0, number + 1), exit_record()], stamp=number)
    found = read(tmp_path)
    assert {run.project: len(run.stream) for run in found} == {"one": 1, "two": 2}
    assert len({identity_of(run).key for run in found}) == 2


def test_rows_without_usable_times_and_steps_get_those_of_the_rows_before(tmp_path: Path) -> None:
    own: list[dict[str, object]] = [
        {"loss": 1.5, "_step": 4, "_timestamp": START},
        {"loss": 2.5, "_step": 0.5, "_timestamp": float("nan")},
        {"loss": 3.5, "_step": float("nan"), "_timestamp": 1e300},
        {"loss": 4.5},
        {"loss": 5.5, "_step": 9, "_timestamp": "now"},
    ]
    path = write_run(tmp_path, [run_record(), *map(row_record, own), exit_record()])
    (run,) = read(path)
    assert run.stream.step.tolist() == [4, 5, 6, 7, 9]
    assert run.stream.time is not None
    assert run.stream.time.tolist() == [START * 1_000_000] * 5
    (found,) = [finding for finding in run.findings if finding.code == "row-without-time"]
    assert found.count == 4


@pytest.mark.parametrize("seconds", [10**17, -5])
def test_impossible_times_of_a_run_and_of_system_metrics_are_none(
    seconds: int, tmp_path: Path
) -> None:
    records = [run_record(start=seconds), *rows(0, 2), stats_record(seconds, {"cpu": 5})]
    (run,) = read(write_run(tmp_path, [*records, exit_record()]), system_metrics=True)
    assert run.start == START * 1_000_000
    assert "system/cpu" not in run.stream.keys
    assert codes(run).count("unreadable-records") == 1


def test_system_metrics_of_an_early_run_without_a_time_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "wandb-metadata.json").write_text("{}")
    (tmp_path / "wandb-history.jsonl").write_text('{"loss": 1, "_step": 0, "_timestamp": 5}\n')
    events = [f'{{"system.cpu": 1, "_timestamp": {time}}}' for time in ("NaN", "1e300", "null", 7)]
    (tmp_path / "wandb-events.jsonl").write_text("\n".join(events) + "\n")
    (run,) = read(tmp_path, system_metrics=True)
    assert run.stream.time is not None
    assert run.stream.time.tolist() == [5_000_000, 7_000_000]
    assert run.stream.column("system/cpu")[1].tolist() == [1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "run-abc.wandb"
    os.mkfifo(pipe)
    for location in (pipe, tmp_path):
        with pytest.raises(SourceError, match="found a named pipe"):
            list(WandbSource().read(str(location), ReadOptions()))
