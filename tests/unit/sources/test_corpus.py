"""Real histories of 71 repositories: all are read, no value is lost, known oddities are seen.

The files are third-party data: read where they lie, beside the repository, and never copied here.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.errors import SourceError
from bridges.stream.identity import prefix_digest, run_key
from bridges.stream.model import RowKind, Run
from tests.support import CORPUS, codes, needs_corpus, read_one, same, with_steps

pytestmark = needs_corpus

REAL = sorted(CORPUS.glob("*.json"))
GENERATED = sorted(CORPUS.glob("generated/*.json"))
FILES = [*REAL, *GENERATED]
BANDS = {
    "3.5-4.31": 62,
    "4.32-4.35": 10,
    "4.36-4.40": 16,
    "4.41-4.49": 55,
    "4.50-4.57": 88,
    "5.0+": 46,
}
# Not of the facts but of these files: what the diagnosis says of each, to notice when it changes.
DIAGNOSED = {
    "epoch-restarts": 1,
    "epoch-rounded": 18,
    "iterable-dataset": 2,
    "learning-rate-jumps": 5,  # all of them resumes: 4 of TANGHULU6 and jubaerkhan49
    "partial-accumulation": 26,
    "resume-other-steps-per-epoch": 2,
    "step-missing": 1,
    "summary-covers-a-part": 2,
    "tail-not-logged": 18,
}


@cache
def run_of(path: Path) -> Run:
    return read_one(path)


@cache
def state_of(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_bytes())
    return loaded


def named(start: str) -> Path:
    (path,) = (path for path in REAL if path.name.startswith(start))
    return path


def found(path: Path) -> dict[str, str]:
    return {finding.code: finding.where for finding in run_of(path).findings}


def test_the_corpus_is_whole() -> None:
    with (CORPUS / "index.tsv").open(encoding="utf-8") as file:
        index = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert sorted(index) == [path.name for path in REAL]
    assert (len(REAL), len(GENERATED)) == (273, 4)
    sizes = {path.name: path.stat().st_size for path in REAL}
    assert sizes == {name: int(row["bytes"]) for name, row in index.items()}
    rows = {path.name: len(run_of(path).stream) for path in REAL}
    assert rows == {name: int(row["log_rows"]) for name, row in index.items()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name[:60])
def test_no_value_is_lost(path: Path) -> None:
    run, state = run_of(path), state_of(path)
    assert same(list(run.stream), with_steps(state["log_history"]))
    assert run.facts["global_step"] == state["global_step"]
    assert run.params["max_steps"] == state["max_steps"]
    assert "duplicate-key" not in codes(run)


def test_the_writers_are_as_many_as_the_shapes() -> None:
    assert Counter(run_of(path).writer for path in FILES) == BANDS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name[:60])
def test_the_writer_agrees_with_the_row_shapes(path: Path) -> None:
    """Full epochs since 4.40, grad_norm since 4.38: hints that the rule itself does not use."""
    run = run_of(path)
    assert run.writer is not None
    since, _, until = run.writer.partition("-")
    epoch = run.stream.epoch
    full = bool((np.round(epoch, 2) != epoch)[np.isfinite(epoch)].any())
    if full:
        assert until not in ("4.31", "4.35")
    if "grad_norm" in run.stream.keys:
        assert until not in ("4.31", "4.35")
    if since in ("4.41", "4.50", "5.0+") and len(run.stream) > 50 and (epoch % 1 > 0).any():
        assert full


def test_the_kinds_of_all_rows() -> None:
    kinds: Counter[int] = Counter()
    for path in FILES:
        kinds.update(run_of(path).stream.kind.tolist())
        summaries = np.flatnonzero(run_of(path).stream.kind == RowKind.SUMMARY)
        assert len(summaries) <= 1
    train, evaluation, summary = (
        kinds[kind] for kind in (RowKind.TRAIN, RowKind.EVAL, RowKind.SUMMARY)
    )
    assert train > 0.98 * kinds.total()
    assert train + evaluation + summary + kinds[RowKind.CUSTOM] == kinds.total()
    assert kinds[RowKind.CUSTOM] == 10  # all of Jaong's


def test_the_status_agrees_with_the_steps() -> None:
    for path in FILES:
        state = state_of(path)
        done = state["global_step"] >= state["max_steps"]
        summary = bool((run_of(path).stream.kind == RowKind.SUMMARY).any())
        assert run_of(path).status == ("finished" if done or summary else "unfinished"), path


def test_the_findings_of_all_files() -> None:
    assert Counter(code for path in FILES for code in codes(run_of(path))) == DIAGNOSED


def test_rows_without_a_step() -> None:
    path = named("Jaong__")
    run, rows = run_of(path), state_of(path)["log_history"]
    missing = [position for position, row in enumerate(rows) if "step" not in row]
    assert len(missing) == 10
    for position in missing:
        assert run.stream.kind[position] == RowKind.CUSTOM
        assert run.stream.kind[position - 1] == RowKind.EVAL
        assert run.stream.step[position] == run.stream.step[position - 1]
    assert found(path)["step-missing"] == "rows 2, 5, 8, 11, 14 and 5 more"


def test_a_resume_with_other_steps_per_epoch() -> None:
    path = named("TANGHULU6__Llama3-8B-Mob__outputs__checkpoint-3000__")
    stream = run_of(path).stream
    assert stream.step[1515] == 1501
    assert (stream.epoch[1514], stream.epoch[1515]) == (3.0, 1.501)
    assert found(path) == dict.fromkeys(
        ("learning-rate-jumps", "resume-other-steps-per-epoch"), "row 1515"
    )


def test_summaries_that_cover_a_resumed_part() -> None:
    """The step is where the epochs start again, too; in the other, the loss falls to a tenth."""
    for name, step in (("CoralReefFish__", 66000), ("anthonyrathe__", 11000)):
        told = {finding.code: finding.message for finding in run_of(named(name)).findings}
        assert told["summary-covers-a-part"].endswith(f"from about step {step} on")


def test_an_iterable_dataset_with_restarts() -> None:
    path = named("CoralReefFish__")
    where = found(path)
    assert where["epoch-restarts"] == "rows 105, 1092, 1386"
    assert where["iterable-dataset"] == "rows 278, 452, 626, 801, 974 and 5 more"


def test_text_in_every_row() -> None:
    run = run_of(named("HangerYang__"))
    (text,) = (series for series in run.stream.series if not series.is_number)
    assert text.key == "remaining_time"
    assert len(text.rows) == 2000
    assert text.values[0] == "59h:30m:19s"
    assert {"lr", "train/acc_0"} <= set(run.stream.keys)


def test_nan_in_a_state() -> None:
    run = run_of(named("adhikarinarayan__EM_phase_transition__results__checkpoint-2115__"))
    assert np.isnan(run.stream.column("grad_norm")[1]).sum() == 1


def test_checkpoints_of_one_run_share_their_beginning() -> None:
    """A shorter checkpoint of the same run has the digest of the longer one's first rows."""
    paths = [path for path in REAL if path.name.startswith("miriamm25__")]
    runs = sorted((run_of(path) for path in paths), key=lambda run: len(run.stream))
    assert len({run_key(run) for run in runs}) == 1
    longest = runs[-1].stream
    for run in runs:
        rows = len(run.stream)
        assert prefix_digest(run.stream, rows) == prefix_digest(longest, rows)


def test_runs_of_one_recipe_have_different_keys() -> None:
    """nanoVLM was trained twice: steps, epochs and learning rates are equal, the losses not."""
    one, other = (
        run_of(named(f"zhaoxincai__nanoVLM__{folder}__trainer_state"))
        for folder in ("0", "checkpoints")
    )
    assert same(one.stream.step.tolist(), other.stream.step.tolist())
    assert run_key(one) != run_key(other)


def test_different_histories_never_share_key_and_digest() -> None:
    seen: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for path in FILES:
        run = run_of(path)
        rows = len(run.stream)
        identity = (run_key(run), rows, prefix_digest(run.stream, rows))
        history = state_of(path)["log_history"]
        assert same(seen.setdefault(identity, history), history)


def test_no_home_directory_is_kept() -> None:
    assert not [path.name for path in FILES if "/home/" in repr(dict(run_of(path).facts))]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("KosKis1+LogShort", "'balance', 'positions', 'closed_trades', 'stats'"),
        ("mikerayo+kolxbt", "'last_train_time', 'saved_at'"),
    ],
)
def test_other_files_of_that_name_are_refused_for_what_they_are(name: str, keys: str) -> None:
    path = CORPUS / "negative" / f"{name}__trainer_state.json"
    with pytest.raises(SourceError) as caught:
        read_one(path)
    assert str(caught.value) == (
        f"{path}: found a JSON object without 'log_history' (the keys {keys}); expected a "
        "trainer_state.json, a list of log rows or JSON lines of log rows. "
        "This is another file: look for the trainer_state.json in a Trainer's output directory."
    )
