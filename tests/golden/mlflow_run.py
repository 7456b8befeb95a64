"""The one run that each release of mlflow wrote for tests/data/mlflow_schemas: plain data."""

from __future__ import annotations

import math

EXPERIMENT = "bridges"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
ARTIFACTS = "/artifacts/1"  # the artifact location of the experiment
RUN_ID = "f" * 32  # stands for the random id
RUN_NAME = "golden run"
USER = "someone"
STATUS = "FINISHED"
START = 1_700_000_000_000  # milliseconds since 1970 UTC
END = START + 86_400_000

TAGS = {  # given when the run is made; mlflow adds mlflow.runName
    "mlflow.user": USER,
    "mlflow.source.name": "trainer_state.json",
    "bridges.key": "a/b",
}
BATCH_TAGS = {"note/größe.学習 top-5_x": 'it\'s "quoted"\nand has a line break', "empty": ""}
PARAMS = {
    "learning_rate": "5e-05",
    "model/größe.x y": "it's 学習",
    "empty": "",
    "long": "0123456789" * 60,
}

# (key, value, timestamp, step), each once; those of a key in the order in which they are logged
METRICS: list[tuple[str, float, int, int]] = [
    ("loss", 2.718281828459045, START, 0),
    ("loss", 0.1, START + 1, 1),
    ("loss", 1 / 3, START + 2, 2),
    ("loss", 1e-07, START + 3, 3),
    ("loss", 123456.789, START + 4, 4),
    ("count", 0, START, 0),
    ("count", -7, START, 1),
    ("count", 2**53 + 1, START, 2),  # no float64
    ("odd", math.nan, START, 0),
    ("odd", math.inf, START, 1),
    ("odd", -math.inf, START, 2),
    ("odd", 5e-324, START, 3),
    ("odd", 1.7976931348623157e308, START, 4),
    ("odd", -0.0, START, 5),
    ("eval/größe.学習 top-5_x", 0.5, START, 0),
    ("nan last", 0.5, START, 1),
    ("nan last", math.nan, START + 1, 2),
    ("nan and more", math.nan, START, 7),
    ("nan and more", 2.5, START, 7),
    ("nan and less", -2.5, START, 7),
    ("nan and less", math.nan, START, 7),
    ("zero then nan", 0.0, START, 7),
    ("zero then nan", math.nan, START, 7),
    ("nan then zero", math.nan, START, 7),
    ("nan then zero", 0.0, START, 7),
    ("same step", 1.0, START + 9, 5),  # the newest
    ("same step", 2.0, START + 1, 5),
    ("same step and time", 3.0, START, 5),  # the newest
    ("same step and time", 1.0, START, 5),
    ("negative steps", 1.0, START, -5),
    ("negative steps", 2.0, START, -1),  # the newest
    ("negative steps", 3.0, START, -(2**62)),
    ("out of order", 30.0, START, 30),  # the newest
    ("out of order", 10.0, START + 50, 10),
    ("out of order", 20.0, START + 20, 20),
    ("time zero", 1.0, 0, 0),
]
COLON_METRICS = [("eval:acc", 0.25, START, 0)]  # mlflow before 2.16 refuses such keys
# logged in a second batch: mlflow drops the first three, which are there already
LATER_METRICS: list[tuple[str, float, int, int]] = [
    ("loss", 1 / 3, START + 2, 2),
    ("odd", 0.0, START, 5),
    ("odd", math.inf, START, 1),
    ("loss", 0.7, START + 5, 3),  # the newest stays
    ("out of order", 40.0, START, 40),
    ("nan and less", -1.0, START, 7),  # NaN stays
    ("nan and more", 2.75, START, 7),
    ("nan last", 0.25, START + 5, 1),  # NaN stays
]
