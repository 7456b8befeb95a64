"""Make tests/data/mlflow_stores: file stores and databases of seven releases of mlflow.

For each release a virtual environment is made and thrown away, in which `mlflow_store.py` fills a
file store (`mlruns/`) and, from mlflow 1.0 on, an SQLite database (`mlflow.db`). The archive
`repeats.tar.xz` has a file store with an exact repeat. From the repository's root:

    python -m tests.golden.make_mlflow_stores                     # all archives
    python -m tests.golden.make_mlflow_stores 3.17.2 repeats      # or some

The interpreters of `RECIPES` (`python3.7` …) are taken from the PATH. Ids and most times are made
anew each time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mlflow_stores import STORES

FILLER = Path(__file__).with_name("mlflow_store.py")
SCRIPT = "train.py"
CONTENTS = ("mlruns", "mlflow.db")
OLD_PARTS = (  # mlflow 0.8 and 1.0 cannot be imported with newer ones
    *("alembic<1.5", "flask<2", "itsdangerous<2", "jinja2<3", "markupsafe<2", "pandas<1.2"),
    *("protobuf<3.21", "setuptools<60", "sqlalchemy<1.4", "werkzeug<2"),
)


@dataclass(frozen=True)
class Recipe:
    """A release of mlflow, the interpreter and the other packages that it needs."""

    release: str
    python: str = "python3.11"
    packages: Sequence[str] = ("psutil",)
    has_database: bool = True
    part: str = ""


RECIPES = {
    "0.8.2": Recipe("0.8.2", "python3.7", OLD_PARTS, has_database=False),
    "1.0.0": Recipe("1.0.0", "python3.7", OLD_PARTS),
    "1.30.1": Recipe("1.30.1", "python3.8", ["setuptools<60"]),
    "2.9.2": Recipe("2.9.2", "python3.10", ["psutil", "setuptools<80"]),
    "2.22.0": Recipe("2.22.0", packages=["psutil", "sqlalchemy<2.1"]),
    "3.12.0": Recipe("3.12.0"),
    "3.17.2": Recipe("3.17.2"),
    "repeats": Recipe("3.17.2", has_database=False, part="repeats"),
}


def main(names: Sequence[str]) -> None:
    """Make the archives of these names."""
    STORES.mkdir(parents=True, exist_ok=True)
    for name in names or RECIPES:
        with tempfile.TemporaryDirectory(prefix="mlflow-store-") as folder:
            make(RECIPES[name], Path(folder))
            target = STORES / f"{name}.tar.xz"
            pack(Path(folder), target)
        print(f"{target.name}: {target.stat().st_size:,} bytes")


def make(recipe: Recipe, folder: Path) -> None:
    """Fill the stores of a release in `folder`."""
    python = environment_of(recipe, folder / "venv")
    run_filler(python, (folder / "mlruns").as_uri(), recipe, folder / "files")
    if recipe.has_database:
        run_filler(python, f"sqlite:///{folder / 'mlflow.db'}", recipe, folder / "database")


def environment_of(recipe: Recipe, folder: Path) -> Path:
    """The interpreter of a new virtual environment with the release."""
    interpreter = shutil.which(recipe.python)
    if interpreter is None:
        raise SystemExit(f"{recipe.python} is not on the PATH")
    subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    wanted = [f"mlflow=={recipe.release}", *recipe.packages]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def run_filler(python: Path, uri: str, recipe: Recipe, folder: Path) -> None:
    """Run a copy of `mlflow_store.py` in `folder`, without the settings of this process.

    A copy, because runs record the path of their script and the commit of its repository.
    """
    folder.mkdir(exist_ok=True)
    shutil.copy(FILLER, folder / SCRIPT)
    settings = {
        "GIT_PYTHON_REFRESH": "quiet",
        "LOGNAME": "user",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    command = [str(python), SCRIPT, uri, *([recipe.part] if recipe.part else [])]
    subprocess.run(command, check=True, cwd=folder, env=kept | settings)


def pack(folder: Path, target: Path) -> None:
    """Pack the stores in `folder`, empty directories included."""
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for name in CONTENTS:
            if (folder / name).exists():
                archive.add(folder / name, name, filter=_without_owner)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main(sys.argv[1:])
