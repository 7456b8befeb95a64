"""Fill a tracking store by mlflow's own client with what readers of stores get wrong.

    python mlflow_store.py URI             all of it
    python mlflow_store.py URI repeats     a run with an exact repeat, as `log_model` makes it

It runs with mlflow 0.8 to 3.17, on Python 3.7 and newer. What a release refuses is printed.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

import mlflow
from mlflow.tracking import MlflowClient

RELEASE = tuple(int(part) for part in mlflow.__version__.split(".")[:2])
START = 1_600_000_000_123  # ms since 1970 UTC
TAGS = {"mlflow.user": "user", "mlflow.source.name": "train.py", "mlflow.source.type": "LOCAL"}
PARAMS = {
    "lr": 0.001,
    "uni": "Größe 损失",
    "spaces": "  x  ",
    "none": None,
    "p/nested": "1",
    "long250": "x" * 250,
    "long500": "x" * 500,
    "long6000": "y" * 6000,
    "long6001": "z" * 6001,
    "json": '{"a": [1, 2]}',
    "ключ": "1",
    "a b.c-d_e": "1",
}
# mlflow 0.x and 1.0 write these, but cannot read or change the run afterwards
SPOILING_METRICS = {"bool": True}
SPOILING_PARAMS = {"empty": "", "multi": "a\nb\n", "crlf": "a\r\nb"}
METRICS = {
    "nan": math.nan,
    "inf": math.inf,
    "ninf": -math.inf,
    "tiny": 1e-300,
    "denormal": 5e-324,
    "big": sys.float_info.max,
    "neg0": -0.0,
    "int": 3,
    "bigint": 2**53 + 1,
    "exp": 1.5e-07,
    "a b.c-d": 1.0,
    "метрика": 2.0,
    "x/y/z": 3.0,
    "eval": 1.0,
    "eval/loss": 1.0,
}
SERIES = {  # time after START (ms), value, step of each point
    "negstep": [(0, 1.0, -5)],
    "bigstep": [(0, 1.0, 2**60)],
    "same": [(0, 1.0, 7), (0, 2.0, 7), (5, 3.0, 7)],
    "back": [(0, 1.0, 7), (1, 2.0, 3)],
}
LONG_TAGS = {
    "note": "long ü\n" * 500,
    "mlflow.note.content": "# note\n- é",
    "long5000": "t" * 5000,
    "long9000": "t" * 9000,
    "with/slash": "1",
    "with space": "2",
    "emptytag": "",
}


class Filler:
    """Fills one store."""

    def __init__(self, uri: str) -> None:
        mlflow.set_tracking_uri(uri)
        self.client: Any = MlflowClient()

    def fill(self) -> None:
        """All that this release can write."""
        for part in (
            self.nested_runs,
            self.odd_values,
            self.deleted,
            self.other_experiments,
            self.fluent,
        ):
            part()
        for since, part in (
            ((2, 4), self.datasets),
            ((2, 8), self.system_metrics),
            ((2, 3), self.model),
            ((2, 14), self.traces),
        ):
            if since <= RELEASE:
                attempt(part.__name__, part)

    def create_run(
        self, experiment: Any, name: str = "", parent: str | None = None, start: int = START
    ) -> str:
        """A new run; its id."""
        if RELEASE < (1, 0):
            run = self.client.create_run(
                experiment,
                user_id="user",
                run_name=name,
                source_type=None,
                source_name="train.py",
                start_time=start,
                parent_run_id=parent,
            )
            return str(run.info.run_uuid)
        tags = dict(TAGS)
        if name:
            tags["mlflow.runName"] = name
        if parent:
            tags["mlflow.parentRunId"] = parent
        run = self.client.create_run(experiment, start_time=start, tags=tags)
        return str(run.info.run_id)

    def log(self, run: str, key: str, value: Any, timestamp: int, step: int) -> None:
        """One point; mlflow 0.x has no steps."""
        self.client.log_metric(run, key, value, timestamp, *([step] if RELEASE >= (1, 0) else []))

    def nested_runs(self) -> None:
        """A parent, three children of other statuses, a grandchild, an orphan."""
        self.experiment = self.client.create_experiment("exp A")
        if RELEASE >= (1, 7):
            set_tag = self.client.set_experiment_tag
            set_tag(self.experiment, "mlflow.note.content", "note of A\nline 2 é")
            set_tag(self.experiment, "team/x", "vision")
        self.parent = self.create_run(self.experiment, "parent")
        for number, status in enumerate(("FINISHED", "FAILED", "KILLED")):
            start = START + 1000 * number
            child = self.create_run(self.experiment, f"child {number} é", self.parent, start)
            for step in range(100):
                self.log(child, "loss", 1.0 / (step + 1), START + 1000 * step, step)
                self.log(child, "val/acc", step / 100.0, START + 1000 * step, step)
            attempt(status, self.client.set_terminated, child, status, START + 200_000)
        self.create_run(self.experiment, "grandchild", child, START + 9000)
        self.create_run(self.experiment, "orphan", "f" * 32, START + 9000)

    def odd_values(self) -> None:
        """Metrics, tags, params and an artifact of the parent; spoiling ones in their own runs."""
        run = self.parent
        for key, number in METRICS.items():
            attempt(f"metric {key!a}", self.log, run, key, number, START, 0)
        for key, points in SERIES.items():
            for after, number, step in points:
                attempt(f"metric {key}", self.log, run, key, number, START + after, step)
        if RELEASE >= (0, 9):
            for key, text in LONG_TAGS.items():
                attempt(f"tag {key}", self.client.set_tag, run, key, text)
        with open("a.txt", "w") as file:
            file.write("hello")
        attempt("artifact", self.client.log_artifact, run, "a.txt")
        for key, value in PARAMS.items():
            attempt(f"param {key!a}", self.client.log_param, run, key, value)
        for key, number in SPOILING_METRICS.items():
            run = self.create_run(self.experiment, f"metric {key}")
            attempt(f"metric {key}", self.log, run, key, number, START, 0)
        for key, value in SPOILING_PARAMS.items():
            run = self.create_run(self.experiment, f"param {key}")
            attempt(f"param {key}", self.client.log_param, run, key, value)

    def deleted(self) -> None:
        """A deleted run, and a deleted experiment with a run."""
        run = self.create_run(self.experiment, "deleted run")
        self.log(run, "loss", 1.0, START, 0)
        self.client.delete_run(run)
        experiment = self.client.create_experiment("to-delete")
        run = self.create_run(experiment, "in deleted exp")
        self.log(run, "loss", 1.0, START, 0)
        self.client.delete_experiment(experiment)

    def other_experiments(self) -> None:
        """A name in Unicode, and a run without a name that never ended in the first experiment."""
        experiment = attempt("name", self.client.create_experiment, "exp/B Größe 损失")
        if experiment is not None:
            run = self.create_run(experiment, "B run")
            self.log(run, "loss", 0.5, START, 0)
            self.client.set_terminated(run)
        run = self.create_run("0" if RELEASE >= (1, 0) else 0)
        self.log(run, "m", 1.0, START, 0)

    def fluent(self) -> None:
        """Runs by the functions of the module, whose clock mlflow 0.x keeps in seconds."""
        mlflow.set_experiment("fluent")
        with mlflow.start_run(run_name="fluent run"):
            mlflow.log_metric("acc", 0.5)
            mlflow.log_param("k", "v")
            if RELEASE >= (1, 0):
                mlflow.log_metric("acc", 0.6, step=1)
                mlflow.log_metrics({"a": 1, "b": 2}, step=3)
                mlflow.set_tags({"t": "u"})
                with mlflow.start_run(run_name="nested", nested=True):
                    mlflow.log_metric("acc", 0.7)

    def datasets(self) -> None:
        """A dataset as input of a run, and of two points."""
        import pandas as pd

        mlflow.set_experiment("datasets")
        with mlflow.start_run(run_name="ds"):
            frame = pd.DataFrame({"a": [1, 2], "b": [3.0, 4.0]})
            dataset = mlflow.data.from_pandas(frame, name="trainset")
            mlflow.log_input(dataset, context="training")
            if RELEASE >= (2, 13):
                mlflow.log_input(dataset, context="eval", tags={"k": "v"})
            if RELEASE >= (3, 0):
                mlflow.log_metric("with_ds", 0.5, step=4, dataset=dataset)
                mlflow.log_metric("with_ds", 0.6, step=5, dataset=dataset)

    def system_metrics(self) -> None:
        """Metrics of the machine, with steps of their own."""
        mlflow.set_experiment("system")
        mlflow.set_system_metrics_sampling_interval(0.5)
        mlflow.set_system_metrics_samples_before_logging(1)
        with mlflow.start_run(run_name="sys", log_system_metrics=True):
            time.sleep(3)

    def model(self) -> None:
        """A model of a run, and the same in the registry."""
        mlflow.set_experiment("model")
        with mlflow.start_run(run_name="model run"):
            info = log_model(registered_model_name="Reg Model")
            if RELEASE >= (3, 0):
                for step, value in ((2, 0.1), (3, 0.2)):
                    mlflow.log_metric("rmse", value, step=step, model_id=info.model_id)
                mlflow.set_logged_model_tags(info.model_id, {"a": "b"})
        self.client.create_registered_model("R2", tags={"a": "b"})

    def traces(self) -> None:
        """A trace of a function."""
        mlflow.set_experiment("traces")
        mlflow.trace(double)(1)
        if hasattr(mlflow, "flush_trace_async_logging"):
            mlflow.flush_trace_async_logging()


def attempt(name: str, action: Callable[..., Any], *arguments: Any) -> Any:
    """The result of an action, or None if this release refuses it."""
    try:
        return action(*arguments)
    except Exception as error:
        print(f"mlflow {mlflow.__version__} refuses {name}: {str(error)[:100]!a}")
        return None


def double(number: int) -> int:
    """The function that is traced."""
    return 2 * number


def log_model(**options: Any) -> Any:
    """Log a small model in the active run."""
    import mlflow.sklearn

    linear_model = importlib.import_module("sklearn.linear_model")
    model = linear_model.LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    options["name" if RELEASE >= (3, 0) else "artifact_path"] = "m"
    return mlflow.sklearn.log_model(model, pip_requirements=[], **options)


def log_repeat(uri: str) -> None:
    """`log_model` logs the metrics of step 0 again, to link them with the model (mlflow 3)."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("repeats")
    with mlflow.start_run(run_name="repeat"):
        mlflow.log_metric("acc", 0.9)
        mlflow.log_metric("later", 0.5, step=1)
        log_model()


if __name__ == "__main__":
    if sys.argv[2:] == ["repeats"]:
        log_repeat(sys.argv[1])
    else:
        Filler(sys.argv[1]).fill()
