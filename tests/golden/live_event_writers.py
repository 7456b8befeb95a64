"""Writes logs with PyTorch, tensorboardX, Keras, Lightning, Stable-Baselines3 and CatBoost.

It imports nothing of bridges; `check_event_writers.py` runs it in an environment of its own:
`python live_event_writers.py DIRECTORY WRITER`, a process for each writer, as TensorFlow and
Lightning crash together. The writer `points` adds `points.json`: the points as TensorFlow reads
them.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

STEPS = 12


def tensorflow(folder: Path) -> None:
    """Scalars of TensorFlow 2, and a training with the callback of Keras."""
    files = import_module("event_files")
    files.scalars(folder / "scalars")
    files.keras(folder / "keras")


def _curves(writer: Any) -> None:
    for step in range(STEPS):
        writer.add_scalar("loss", 1 / (step + 1), step)
        writer.add_scalars("acc", {"train": step / 7, "val": step / 9}, step)
    writer.add_text("note", "hello *you*", 3)
    writer.add_hparams({"lr": 0.1, "layers": 3, "name": "x"}, {"hp/accuracy": 0.5})


def pytorch(folder: Path) -> None:
    """All kinds of a training, and one that is resumed with `purge_step`."""
    summary_writer: Any = import_module("torch.utils.tensorboard").SummaryWriter
    with summary_writer(str(folder / "curves")) as writer:
        _curves(writer)
    for first in (0, 5):
        with summary_writer(str(folder / "resumed"), purge_step=first or None) as writer:
            for step in range(first, first + STEPS):
                writer.add_scalar("loss", step + first, step)


def tensorboardx(folder: Path) -> None:
    """The same with tensorboardX."""
    with import_module("tensorboardX").SummaryWriter(str(folder)) as writer:
        _curves(writer)


def lightning(folder: Path) -> None:
    """Two trainings with the logger of Lightning, `version_0` and `version_1`."""
    torch: Any = import_module("torch")
    pl: Any = import_module("lightning.pytorch")
    loggers: Any = import_module("lightning.pytorch.loggers")

    def init(self: Any, lr: float) -> None:
        pl.LightningModule.__init__(self)
        self.save_hyperparameters({"lr": lr})
        self.layer = torch.nn.Linear(3, 1)

    def loss(self: Any, batch: Any, name: str) -> Any:
        found = self.layer(batch[0]).square().mean()
        self.log(name, found)
        return found

    def validate(self: Any, batch: Any, _: int) -> None:
        loss(self, batch, "val_loss")

    methods = {
        "__init__": init,
        "training_step": lambda self, batch, _: loss(self, batch, "train_loss"),
        "validation_step": validate,
        "configure_optimizers": lambda self: torch.optim.SGD(self.parameters(), self.hparams.lr),
    }
    model: Any = type("Model", (pl.LightningModule,), methods)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(24, 3)), 4)
    for rate in (0.1, 0.2):
        trainer = pl.Trainer(
            max_epochs=3,
            log_every_n_steps=1,
            accelerator="cpu",
            logger=loggers.TensorBoardLogger(str(folder)),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model(rate), data, data)


def stable_baselines3(folder: Path) -> None:
    """The logger of Stable-Baselines3, with a table beside the event file."""
    module: Any = import_module("stable_baselines3.common.logger")
    logger = module.configure(str(folder / "PPO_1"), ["tensorboard", "csv"])
    for step in range(STEPS):
        logger.record("rollout/ep_rew_mean", step / 3)
        logger.record("train/loss", float("nan") if step == 2 else step / 5)
        logger.record("time/total_timesteps", step * 2048, exclude="tensorboard")
        logger.dump(step * 2048)
    logger.close()


def catboost(folder: Path) -> None:
    """A training with an evaluation set: two directories with event files, and tables."""
    rows = [[(7 * at) % 13 / 13, (5 * at) % 11 / 11] for at in range(60)]
    target = [3 * a - b for a, b in rows]
    folder.parent.mkdir(parents=True, exist_ok=True)
    model: Any = import_module("catboost").CatBoostRegressor(
        iterations=STEPS, depth=2, train_dir=str(folder), verbose=False, custom_metric="MAE"
    )
    model.fit(rows[:40], target[:40], eval_set=(rows[40:], target[40:]))


def points(root: Path) -> None:
    """The points of all files, as TensorFlow reads them."""
    points_of = import_module("event_files").points_of
    found = {str(path.relative_to(root)): points_of(path) for path in root.rglob("*tfevents*")}
    (root / "points.json").write_text(json.dumps(found))


FUNCTIONS = (tensorflow, pytorch, tensorboardx, lightning, stable_baselines3, catboost)
WRITERS = {each.__name__: each for each in FUNCTIONS}

if __name__ == "__main__":
    where, name = Path(sys.argv[1]), sys.argv[2]
    points(where) if name == "points" else WRITERS[name](where / name)
