"""Writes tables as training libraries do, by the libraries themselves.

It imports nothing of bridges; `make_tables.py` runs it in an environment of its own:

    python table_writers.py FOLDER [LIBRARY ...]
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def lightning(folder: Path) -> None:
    """Two epochs with a metric that begins in the second one, a repeated step and hparams."""
    torch = import_module("torch")
    main = import_module("lightning.pytorch")
    loggers = import_module("lightning.pytorch.loggers")

    def begin(self: Any) -> None:
        main.LightningModule.__init__(self)
        self.save_hyperparameters({"lr": 0.1, "act": torch.nn.ReLU})
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self: Any, batch: list[Any], number: int) -> object:
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("train_loss", loss)
        if self.current_epoch == 1:
            self.log("late", float("nan"))
        return loss

    def validation_step(self: Any, batch: list[Any], number: int) -> None:
        self.log("val_loss", self.layer(batch[0]).pow(2).mean())

    def configure_optimizers(self: Any) -> object:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    steps = (training_step, validation_step, configure_optimizers)
    methods = {"__init__": begin, **{step.__name__: step for step in steps}}
    model = type("Model", (main.LightningModule,), methods)()
    main.seed_everything(1)
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.rand(8, 2)), batch_size=2
    )
    logger = loggers.CSVLogger(str(folder), name="lightning_logs", flush_logs_every_n_steps=2)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    main.Trainer(max_epochs=2, logger=logger, log_every_n_steps=1, **quiet).fit(model, data, data)


def keras(folder: Path) -> None:
    """A training, one with validation in each second epoch, and two trainings in one table."""
    os.environ["KERAS_BACKEND"] = "torch"
    library, numpy = import_module("keras"), import_module("numpy")
    library.utils.set_random_seed(1)
    layers = [library.layers.Input((2,)), library.layers.Dense(1)]
    model = library.Sequential(layers)
    model.compile("sgd", "mse", metrics=["mae"])
    rows = numpy.random.rand(8, 2)
    folder.mkdir(parents=True)

    def fit(name: str, epochs: int, *, append: bool = False, **more: int) -> None:
        logger = library.callbacks.CSVLogger(str(folder / name), append=append)
        same = (rows, rows[:, :1])
        options = {"epochs": epochs, "verbose": 0, "validation_data": same, **more}
        model.fit(*same, callbacks=[logger], **options)

    fit("history.csv", 3)
    fit("every_second.csv", 4, validation_freq=2)
    fit("twice.csv", 3)
    fit("twice.csv", 2, append=True)


def sb3(folder: Path) -> None:
    """Three rows by the logger of Stable-Baselines3, as CSV and as JSON lines."""
    module = import_module("stable_baselines3.common.logger")
    logger = module.configure(str(folder), ["csv", "json"])
    for number in range(1, 4):
        logger.record("time/total_timesteps", 2048 * number)
        logger.record("time/time_elapsed", 3 * number)
        logger.record("rollout/ep_rew_mean", -1 / number)
        if number > 1:
            logger.record("train/loss", 1 / (7 * number))
            logger.record("train/explained_variance", float("nan"))
        if number == 3:
            logger.record("note", "a, b")
        logger.dump(step=2048 * number)
    logger.close()


def dvclive(folder: Path) -> None:
    """Three steps with params, and one metric with a nested name."""
    os.environ["DVC_STUDIO_OFFLINE"] = "true"
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


WRITERS = {each.__name__: each for each in (lightning, keras, sb3, dvclive, catboost)}


def main() -> None:
    """Write the directories of the libraries anew, each below the given folder."""
    out, *names = sys.argv[1:]
    for name in names or WRITERS:
        folder = Path(out) / name
        shutil.rmtree(folder, ignore_errors=True)
        WRITERS[name](folder)


if __name__ == "__main__":
    main()
