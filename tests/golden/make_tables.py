"""Writes tests/data/tables: what DVCLive and CatBoost leave behind, by the programs themselves.

python -m venv writers && writers/bin/pip install dvclive catboost
writers/bin/python tests/golden/make_tables.py tests/data/tables
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from importlib import import_module
from pathlib import Path


def dvclive(folder: Path) -> None:
    """A training of three steps with params, and one metric with a nested name."""
    live_class = import_module("dvclive").Live

    with live_class(str(folder), save_dvc_exp=False, dvcyaml=None, report=None) as live:
        live.log_params({"lr": 0.1, "layers": [1, 2]})
        for step in range(3):
            live.log_metric("loss", 1 / (step + 3), timestamp=True)
            live.log_metric("val/deep/acc (top 1)", step / 7)
            if step == 2:
                live.log_metric("nan", float("nan"))
            live.next_step()


def catboost(folder: Path) -> None:
    """Eight iterations with an evaluation set; event files beside the tables."""
    rng = random.Random(1)
    rows = [[rng.random(), rng.random()] for _ in range(60)]
    target = [3 * a - b for a, b in rows]
    model = import_module("catboost").CatBoostRegressor(
        iterations=8, depth=2, train_dir=str(folder), verbose=False, thread_count=1, random_seed=1
    )
    model.fit(rows[:40], target[:40], eval_set=(rows[40:], target[40:]))
    shutil.rmtree(folder / "tmp", ignore_errors=True)


def main() -> None:
    """Write both directories anew."""
    out = Path(sys.argv[1])
    os.environ["DVC_STUDIO_OFFLINE"] = "true"
    for write in (dvclive, catboost):
        folder = out / write.__name__
        shutil.rmtree(folder, ignore_errors=True)
        write(folder)


if __name__ == "__main__":
    main()
