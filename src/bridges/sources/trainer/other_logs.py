"""Notes about other logs in a tree of the Trainer, where only its states are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from bridges.sources.times.events import EventFiles
from bridges.sources.trainer.checkpoint_paths import folder_of
from bridges.sources.trainer.discovery import FoundFiles
from bridges.sources.trainer.paths import name_of
from bridges.stream.finding import Finding, Severity

WANDB = "wandb"  # the directory of W&B's runs


def other_logs(found: FoundFiles, outputs: Collection[str]) -> tuple[Finding, ...]:
    """A note for each MLflow store, directory of W&B runs, and directory of event files outside of
    `outputs`, the output directories of the Trainer.
    """
    events = EventFiles(found.events, outputs).unowned
    return (*_stores(found), *_wandb_runs(found), *(_event_files(*item) for item in events.items()))


def _stores(found: FoundFiles) -> Iterator[Finding]:
    if not found.metas:
        return
    from bridges.sources.mlflow.location import TRASH, is_root

    roots = Counter(folder_of(folder) or "." for folder in found.metas)
    for root, count in roots.items():
        is_place = root not in found.metas and name_of(root) != TRASH and "://" not in root
        if is_place and is_root(root):
            yield _note(root, "an MLflow store", "mlflow", count)


def _wandb_runs(found: FoundFiles) -> Iterator[Finding]:
    places = Counter(_wandb_place(folder) for folder in found.wandb_runs)
    for place, count in places.items():
        yield _note(place, "logs of W&B runs", "wandb", count)


def _wandb_place(folder: str) -> str:
    """The directory `wandb` around a run's directory, or the run's directory."""
    outer = folder_of(folder)
    return outer if name_of(outer) == WANDB else folder


def _event_files(folder: str, count: int) -> Finding:
    return _note(folder, "event files outside of the Trainer's directories", "tensorboard", count)


def _note(where: str, what: str, source: str, count: int) -> Finding:
    message = f"{what}, not read beside states of the Trainer: --source {source} exports them"
    return Finding("other-store", Severity.INFO, where or ".", message, count)
