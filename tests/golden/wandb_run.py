"""Write offline runs by wandb's own client with what readers of its logs get wrong.

    python wandb_run.py SCENARIO

It runs with wandb 0.9 to 0.31, on Python 3.8 and newer; the run is written below the current
directory. A scenario that a release does not know is left out and printed.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any

os.environ.update(
    WANDB_MODE="dryrun" if "dryrun" in sys.argv else "offline",
    WANDB_SILENT="true",
    WANDB_CONSOLE="off",
    WANDB_HOST="host",
    WANDB_USERNAME="user",
    WANDB_DISABLE_GIT="true",
    WANDB_DISABLE_CODE="true",
    WANDB_ERROR_REPORTING="false",
)

import wandb

START = 1_700_000_000.25  # seconds since 1970 UTC
RELEASE = tuple(int(part) for part in wandb.__version__.split(".")[:2])


def init(name: str, **settings: Any) -> Any:
    """A run with an id that is its name."""
    return wandb.init(project="golden", id=f"id-{name}", name=name, reinit=True, **settings)


def finish(code: int = 0) -> None:
    """End the run, and wait until its file is complete."""
    if RELEASE < (0, 10):
        getattr(wandb, "join")(code)  # noqa: B009 newer releases lack it
        return
    wandb.finish(exit_code=code)
    if hasattr(wandb, "teardown"):
        wandb.teardown()


def values() -> None:
    """Values of all types."""
    init("values")
    for at in range(40):
        row = {"loss": 1 / (at + 1), "count": at, "flag": at % 2 == 0, "whole": float(at)}
        wandb.log({**row, "_timestamp": START + at})
    odd = {
        "nan": math.nan,
        "inf": math.inf,
        "ninf": -math.inf,
        "neg0": -0.0,
        "tiny": 5e-324,
        "large": sys.float_info.max,
        "int53": 2**53 + 1,
        "int63": 2**63 - 1 if RELEASE >= (0, 18) else 2**62 + 1,
        "text": 'a, "b" [1',
        "NaN": "NaN",
        "ключ": 1.5,
        "a.b": 1,
        "a/b": 2,
        "list": [1, 2.5, "x"],
        "nested": {"b": {"c": 2}, "d": 0.5},
        "none": None,
        "loss": 0.125,
        "key longer than sixteen bytes": 1.25,
        "key longer than sixteen bytez": 2.25,
    }
    wandb.log({**odd, "_timestamp": START + 40})
    is_core = RELEASE >= (0, 18)  # before, larger integers fail in the summary
    wandb.log({"int64": 2**64 if is_core else 2**62, "": 1, "_timestamp": START + 41})
    wandb.log({"loss": math.nan, "_timestamp": START + 42})
    finish()


def metrics() -> None:
    """Metrics with an x-axis of their own."""
    run = init("metrics")
    run.define_metric("epoch")
    run.define_metric("val/*", step_metric="epoch")
    run.define_metric("train/*", step_metric="global_step")
    for at in range(6):
        wandb.log({"train/loss": 1 / (at + 1), "global_step": 10 * (at + 1)})
        if at % 2:
            wandb.log({"val/acc": at / 10, "epoch": at // 2})
    finish()


def steps() -> None:
    """Explicit steps, a dropped one, and rows in pieces."""
    init("steps")
    for step in (0, 10, 20, 10, 1_000_000):
        wandb.log({"loss": step + 0.5}, step=step)
    wandb.log({"half": 1.5}, commit=False)
    wandb.log({"other half": 2.5})
    wandb.log({"last": 3.5}, commit=False)
    finish()


def trainer() -> None:
    """A run as the callback of transformers logs it."""
    run = init("trainer", config={"learning_rate": 5e-05, "hub_token": "hf_" + "a" * 34})
    if hasattr(run, "_label"):
        run._label(code="transformers_trainer")
    run.define_metric("train/global_step")
    run.define_metric("*", step_metric="train/global_step", step_sync=True)
    for at, row in enumerate(TRAINER_ROWS):
        wandb.log({**row, "_timestamp": START + at})
    for key, value in TRAINER_SUMMARY.items():
        run.summary[key] = value
    finish()


TRAINER_ROWS = [
    {"train/loss": 0.7, "train/grad_norm": 1.5, "train/learning_rate": 0.0,
     "train/epoch": 0.5, "train/global_step": 5},
    {"eval/loss": 0.69, "eval/accuracy": 1.0, "eval/runtime": 0.1,
     "eval/samples_per_second": 302.0, "eval/steps_per_second": 37.5, "train/epoch": 0.5,
     "train/global_step": 5},
    {"train/loss": 0.5, "train/grad_norm": 2.0, "train/learning_rate": 2.5e-05,
     "train/epoch": 1.0, "train/global_step": 10},
    {"train/epoch": 1.0, "train/global_step": 10},
]  # fmt: skip
TRAINER_SUMMARY = {
    "train_runtime": 2.5,
    "train_samples_per_second": 40.0,
    "train_steps_per_second": 4.0,
    "train_loss": 0.6,
    "total_flos": 1e12,
}


def labels() -> None:
    """Config, summary and labels of a run."""
    config = {"lr": 0.001, "deep": {"a": 1, "b": [1, 2]}, "api_key": "sk-" + "b" * 40}
    run = init("labels", config=config, group="group", job_type="train", tags=["one", "two"],
               notes="some notes")  # fmt: skip
    run.config.update({"lr": 0.002}, allow_val_change=True)
    wandb.log({"loss": 0.5})
    run.summary["best"] = 0.25
    run.summary["nested"] = {"score": 1.5}
    finish(1)


def media() -> None:
    """Objects of wandb's types, and a list that becomes a histogram."""
    init("media")
    for at in range(2):
        table = wandb.Table(columns=["a", "b"], data=[[at, "x"], [2, "y"]])
        wandb.log({
            "loss": 0.5 - at / 10,
            "histogram": wandb.Histogram([1, 2, 2, 3]),
            "page": wandb.Html("<p>hello</p>"),
            "table": table,
            "group": {"inner": wandb.Html("<b>hi</b>"), "score": at + 0.5},
        })  # fmt: skip
    finish()


def resumed() -> None:
    """The first rows of a run; a second process continues it."""
    part = int(os.environ.get("PART", "1"))
    init("resumed", resume="allow", config={"part": part})
    for at in range(3):
        wandb.log({"loss": part + at / 10, "_timestamp": START + 10 * part + at})
    finish()


def empty() -> None:
    """A run without rows."""
    init("empty")
    finish()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
