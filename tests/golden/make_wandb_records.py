"""Make tests/data/wandb_records: the files of small W&B runs, as bridges writes them itself.

Only to be made anew when the format changes on purpose. From the repository's root:

    python -m tests.golden.make_wandb_records

Nothing in them varies: no source is a path, and no float is 1e16 or more, of which releases of
pydantic write the exponent in different ways.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.stream.model import Provenance, Run
from bridges.testing.exporters import ROWS
from tests.integration.exporters.wandb.support import files_of
from tests.support import DATA, make_run

FOLDER = DATA / "wandb_records"
FULL = {
    "name": "golden run",
    "group": "größe",
    "trial": "trial-3",
    "status": "unfinished",
    "params": {
        "lr": 1e-5,
        "steps": 2**53 + 1,
        "inf": float("inf"),
        "nan": float("nan"),
        "deep": {"a": [1, None, True], "学習": "it's"},
    },
    "tags": {"team": "x", "old": ""},
    "writer": "4.41-4.49",
    "provenance": (Provenance("trainer_state.json", 12, "0" * 64),),
}
RUNS: dict[str, tuple[Sequence[Run], dict[str, Any], LayoutOptions]] = {
    "rows": ([make_run(ROWS)], {}, LayoutOptions()),
    "full": ([make_run(ROWS, **FULL)], {"job_type": "train"}, LayoutOptions(x_axis="epoch")),
    "merged": ([make_run(ROWS)], {"wandb_step": "global_step"}, LayoutOptions()),
    "grown": ([make_run(ROWS[:3]), make_run(ROWS)], {}, LayoutOptions()),
}  # the lengths to which a run grew, each written after the one before was uploaded


def write(name: str, folder: Path) -> list[Path]:
    """Export the run; its files, one for each part."""
    lengths, options, layout = RUNS[name]
    for run in lengths:
        for file in files_of(folder):
            Path(f"{file}.synced").touch()
        exporter = WandbExporter(
            WandbOptions("golden", "someone", str(folder), **options, wandb_writer="direct")
        )
        report = export_run(run, exporter, ExportOptions(layout=layout))
        assert report.verified, report.findings
    return files_of(folder)


def golden(name: str) -> list[Path]:
    """The stored files of the run, one for each part."""
    return [FOLDER / f"{name}-{part}.wandb" for part in range(1, len(RUNS[name][0]) + 1)]


def main() -> None:
    """Make all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            for made, stored in zip(write(name, Path(folder)), golden(name), strict=True):
                print(stored.name, stored.write_bytes(made.read_bytes()), "bytes")


if __name__ == "__main__":
    main()
