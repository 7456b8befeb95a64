"""Make tests/data/tables: tables by Lightning, Keras, Stable-Baselines3, DVCLive and CatBoost.

A virtual environment is made and thrown away, in which `table_writers.py` writes the files. With
`--check`, the files of these and of older releases are compared with pandas, and not kept. From the
repository's root:

    python -m tests.golden.make_tables [--check] [LIBRARY ...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support import DATA

TARGET = DATA / "tables"
WRITER = Path(__file__).with_name("table_writers.py")
NEWEST = {
    "lightning": ["lightning==2.6.6", "torch==2.14.1"],
    "keras": ["keras==3.15.1", "torch==2.14.1"],
    "sb3": ["stable-baselines3==2.9.2", "torch==2.14.1"],
    "dvclive": ["dvclive==3.49.1"],
    "catboost": ["catboost==1.2.10"],
}
OLDER = {
    "lightning": ["lightning==2.2.5", "torch==2.14.1", "setuptools<80"],
    "keras": ["keras==3.3.3", "torch==2.14.1", "packaging"],
    "sb3": ["stable-baselines3==2.3.2", "torch==2.14.1"],
}


def write(releases: Mapping[str, list[str]], names: Iterable[str], target: Path) -> None:
    """Write the tables of some libraries, in one environment each."""
    for name in names:
        with tempfile.TemporaryDirectory(prefix="tables-") as folder:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            python = str(Path(folder) / "bin" / "python")
            install = [python, "-m", "pip", "install", "--quiet", *releases[name]]
            subprocess.run(install, check=True)
            subprocess.run([python, str(WRITER), str(target), name], check=True)


def check(names: Iterable[str]) -> None:
    """Compare the tables of both sets of releases with pandas. Raises AssertionError."""
    from tests.unit.sources.tables.test_writers import compare_all

    for releases in (NEWEST, OLDER):
        chosen = [name for name in names if name in releases]
        with tempfile.TemporaryDirectory(prefix="written-") as folder:
            write(releases, chosen, Path(folder))
            cells = compare_all(Path(folder))
            print(f"{', '.join(chosen)}: {cells} cells equal what pandas reads")


def main() -> None:
    """Write or check the tables of the given libraries, or of all."""
    names = [name for name in sys.argv[1:] if name in NEWEST] or [*NEWEST]
    if "--check" in sys.argv:
        check(names)
    else:
        write(NEWEST, names, TARGET)


if __name__ == "__main__":
    main()
