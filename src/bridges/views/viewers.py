"""The programs that show a target: TensorBoard, the pages of MLflow, or a browser."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bridges.errors import ConfigError
from bridges.formats.mlflow_store.uri import quoted_uri, shown_uri

DEFAULTS = ("runs", "mlflow.db", "mlruns")  # of exports without options
ALL_POINTS = "scalars=1000000000"  # TensorBoard shows a sample by default
MLFLOW_PORT = 5000  # its default
TRACKIO_PORT = "GRADIO_SERVER_PORT"
PAGES = (".html", ".htm")
TABLES = (".parquet", ".csv")
SQLITE = b"SQLite format 3\0"
EXPECTED = (
    "a directory of event files, an MLflow store (a database, mlruns or a URI), a directory or "
    "project of Trackio, or a page"
)


@dataclass(frozen=True)
class Viewer:
    """How to view a target: the arguments of a `program`, or the `page` to open in a browser.

    `environment` keeps secrets out of the arguments; `shown` is the command for people.
    """

    program: str = ""
    arguments: tuple[str, ...] = ()
    page: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The command without secrets, or the address of the page."""
        if self.page:
            return self.page
        names = [f"{name}={shown_uri(value)}" for name, value in self.environment.items()]
        return " ".join([*map(shlex.quote, names), shlex.join([self.program, *self.arguments])])


def viewers(targets: Sequence[str], port: int | None = None) -> list[Viewer]:
    """The viewers of targets; without any, of the default targets of exports here.

    All directories of event files have one viewer. A `port` is counted up from viewer to viewer.
    Raises ConfigError for a target without a viewer.
    """
    chosen = targets or [name for name in DEFAULTS if os.path.exists(name)]
    if not chosen:
        raise ConfigError(
            f"found none of {', '.join(DEFAULTS)} here; expected {EXPECTED}. Name what an export "
            "wrote: it prints its location."
        )
    logdirs = [target for target in chosen if _is_logdir(target)]
    others = [_viewer(target) for target in chosen if target not in logdirs]
    found = [*([_tensorboard(logdirs)] if logdirs else []), *others]
    return [*_with_ports(found, port)]


def _with_ports(found: Sequence[Viewer], port: int | None) -> Iterator[Viewer]:
    """The viewers with ports of their own: from `port` on, else from MLflow's default."""
    started: Counter[str] = Counter()
    for viewer in found:
        before = started[viewer.program] if port is None else started.total()
        if viewer.program == "trackio":  # it finds a free port, and has no option for one
            begin = {} if port is None else {TRACKIO_PORT: str(before + port)}
            yield replace(viewer, environment={**viewer.environment, **begin})
        elif viewer.program and (before or port is not None):
            free = before + (MLFLOW_PORT if port is None else port)
            yield replace(viewer, arguments=(*viewer.arguments, "--port", str(free)))
        else:
            yield viewer
        started[viewer.program] += bool(viewer.program)


def _is_logdir(target: str) -> bool:
    """Whether a directory holds event files."""
    return os.path.isdir(target) and any(
        "tfevents" in name for _, _, names in os.walk(target) for name in names
    )


def _tensorboard(logdirs: Sequence[str]) -> Viewer:
    points = ("--samples_per_plugin", ALL_POINTS)
    if len(logdirs) == 1:
        return Viewer("tensorboard", ("--logdir", logdirs[0], *points))
    pairs = ",".join(f"{os.path.normpath(each)}:{each}" for each in logdirs)
    return Viewer("tensorboard", ("--logdir_spec", pairs, *points))


def _viewer(target: str) -> Viewer:
    """The viewer of a target other than event files."""
    scheme = target.partition("://")[0].lower() if "://" in target else ""
    if scheme in ("http", "https"):
        return Viewer(page=target)
    if scheme and scheme != "file":
        return _mlflow(target)
    path = Path(target)
    if path.suffix.lower() in PAGES and path.is_file():
        return Viewer(page=path.resolve().as_uri())
    if trackio := _trackio(path):
        return trackio
    if path.is_file() and _begins(path, SQLITE):
        return _mlflow(f"sqlite:///{target}")
    if path.is_dir() and any(path.glob("*/meta.yaml")):
        # MLflow refuses file stores from release 3.13 on, unless they are asked for
        return replace(_mlflow(target), environment={"MLFLOW_ALLOW_FILE_STORE": "true"})
    if path.is_dir() and (offline := _offline(path)):
        raise ConfigError(
            f"{target}: offline runs of W&B have no viewer here. Upload them with: "
            f"wandb sync {shlex.quote(str(offline))}/offline-run-*"
        )
    if path.is_dir() and (command := _show_command(path)):
        raise ConfigError(f"{target}: tables have no viewer here. Show the points with: {command}")
    found = "nothing that has a viewer" if path.exists() else "nothing there"
    raise ConfigError(f"{target}: found {found}; expected {EXPECTED}.")


def _mlflow(uri: str) -> Viewer:
    """MLflow's pages; a URI with a login is passed in the environment."""
    if shown_uri(uri) == uri:
        return Viewer("mlflow", ("ui", "--backend-store-uri", uri))
    return Viewer("mlflow", ("ui",), environment={"MLFLOW_BACKEND_STORE_URI": quoted_uri(uri)})


def _trackio(path: Path) -> Viewer | None:
    """The dashboard for a directory of Trackio's projects, or for the file of one."""
    if path.is_dir() and any(map(_is_project, path.glob("*.db"))):
        return Viewer("trackio", ("show",), environment={"TRACKIO_DIR": str(path)})
    if path.is_file() and _is_project(path):
        folder = str(path.parent)
        return Viewer(
            "trackio", ("show", "--project", path.stem), environment={"TRACKIO_DIR": folder}
        )
    return None


def _is_project(path: Path) -> bool:
    """Whether a file is a project of Trackio: MLflow's databases have other tables."""
    if not _begins(path, SQLITE):
        return False
    import sqlite3  # slow to import, and rarely needed

    query = "SELECT count(*) FROM sqlite_master WHERE name IN ('metrics', 'configs')"
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as database:
        return bool(database.execute(query).fetchone() == (2,))
    return False


def _begins(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(head)) == head


def _show_command(path: Path) -> str:
    """The command for the points in a directory of tables; empty for another one."""
    suffix = next((each for each in TABLES if any(path.glob(f"metrics/*{each}"))), "")
    if not suffix:
        return ""
    from bridges.exporters.tables.files import show_command  # imports NumPy

    return show_command(str(path), suffix)


def _offline(path: Path) -> Path | None:
    """The folder with offline W&B runs in a directory."""
    folders = (path, path / "wandb")
    return next((each for each in folders if any(each.glob("offline-run-*"))), None)
