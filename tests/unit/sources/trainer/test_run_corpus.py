"""The directories of real repositories, laid out as they were: which runs they hold."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from tests.support import CORPUS, needs_corpus

SEVERAL = {  # directories that hold more than one run
    "GulbeycanCagri/IS-584-Term-Project results": 3,
    "SeanGormann/llm_recovery ": 3,
    "SecurityLab-UCD/UniTSyn results": 2,
    "TANGHULU6/Llama3-8B-Mob outputs": 10,
    "huloujun/GreenBuilding-QA-LLM outputs": 4,
    "huyjaky/ocr-models model": 2,
    "laminair/mess-plus data_logs/distillbert": 2,
    "pcrooijendijk/EaTVul_revised results": 2,
    "vacantfury/CS6140-MUGC-project results": 3,
    "xuyubiao/ADBlock-Rules ": 2,
}


def directories() -> dict[str, list[tuple[Path, Path]]]:
    """The states of each directory: where in it, and the file that holds it here."""
    found = defaultdict(list)
    if CORPUS.is_dir():
        with open(CORPUS / "index.tsv") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                path = Path(row["path"])
                inner = 2 if path.parent.name.startswith("checkpoint-") else 1
                folder = "/".join(path.parts[:-inner])
                place = Path(*path.parts[-inner:])
                found[f"{row['repo']} {folder}"].append((place, CORPUS / row["file"]))
    return {name: places for name, places in found.items() if len(places) > 1}


def lay_out(name: str, folder: Path) -> None:
    """The states of a directory, as they lay there."""
    for place, file in directories()[name]:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).symlink_to(file)


def runs_by_hand(files: list[Path]) -> int:
    """How many runs there are, by comparing the rows themselves."""
    histories: list[list[Any]] = [json.loads(file.read_text())["log_history"] for file in files]
    texts = [[json.dumps(row, sort_keys=True) for row in history] for history in histories]
    longest: list[list[str]] = []
    for text in sorted(texts, key=len, reverse=True):
        if not any(other[: len(text)] == text for other in longest):
            longest.append(text)
    return len(longest)


@needs_corpus
@pytest.mark.parametrize("name", sorted(directories()))
def test_a_directory_holds_its_runs(name: str, tmp_path: Path) -> None:
    lay_out(name, tmp_path)
    runs = list(RunDirectorySource().read(str(tmp_path), ReadOptions()))
    assert len(runs) == runs_by_hand([file for _, file in directories()[name]])
    assert len(runs) == SEVERAL.get(name, len(runs))
    assert len({run.name for run in runs}) == len(runs)
