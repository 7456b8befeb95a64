"""Makes tests/data/trackio_callback.json: the rows and the config that the live callback leaves.

Run it where transformers and trackio are installed: `python -m tests.golden.make_trackio_rows`. The
callback of transformers gets the rows one by one, as the Trainer gives them, and logs them into a
directory of its own.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PATH = Path(__file__).parents[1] / "data" / "trackio_callback.json"
ARGS = {"learning_rate": 5e-5, "output_dir": "out", "adam": {"beta": [0.9, 0.999]}, "project": "p"}
MODEL = {"hidden_size": 8, "_name_or_path": "org/model", "tags": ["a"]}
ROWS: list[dict[str, Any]] = [
    {"loss": 2.5, "grad_norm": 1.5, "learning_rate": 0.0, "epoch": 0.5, "step": 1},
    {"loss": math.nan, "grad_norm": math.inf, "learning_rate": 1e-4, "epoch": 1.0, "step": 2},
    {"eval_loss": 0.1, "eval_runtime": 0.5, "eval_flag": True, "epoch": 1.0, "step": 2},
    {"loss": -0.0, "grad_norm": -math.inf, "learning_rate": 5e-5, "epoch": 1.5, "step": 3},
    {"test_loss": 0.3, "test_x": 7, "epoch": 1.5, "step": 3},
    {"note": "fine", "eval_list": [1, 2.5], "eval_none": None, "epoch": 1.5, "step": 3},
    {
        **{"train_runtime": 9.5, "train_samples_per_second": 2.0, "train_steps_per_second": 1.0},
        **{"total_flos": 1e15, "train_loss": 1.25, "epoch": 1.5, "step": 3},
    },
]


def logged(folder: str) -> dict[str, Any]:
    """The rows and the config of a run that the callback logs."""
    os.environ["TRACKIO_DIR"] = folder
    import trackio
    import transformers
    from transformers.integrations.integration_utils import TrackioCallback

    places = dict.fromkeys(("trackio_space_id", "trackio_bucket_id", "hub_private_repo"))
    args = SimpleNamespace(**ARGS, **places, run_name="run", to_dict=lambda: ARGS)
    state = SimpleNamespace(is_world_process_zero=True, global_step=0)
    callback = TrackioCallback()
    callback.setup(args, state, SimpleNamespace(config=MODEL))
    for row in ROWS:
        state.global_step = row["step"]
        logs = {key: value for key, value in row.items() if key != "step"}
        callback.on_log(args, state, None, logs=logs)
    callback.on_train_end(args, state, None)
    with sqlite3.connect(Path(folder) / "p.db") as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
        ((config,),) = database.execute("SELECT config FROM configs").fetchall()
    return {
        "made by": f"transformers {transformers.__version__}, trackio {trackio.__version__}",
        "rows": [[step, json.loads(metrics)] for step, metrics in rows],
        "config": json.loads(config),
    }


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        PATH.write_text(json.dumps(logged(folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
