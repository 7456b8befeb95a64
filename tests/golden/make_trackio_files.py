"""Makes tests/data/trackio_files/: project files of Trackio releases with different tables, as SQL.

Each release logs two runs in an environment of its own. It needs `uv`:

    python -m tests.golden.make_trackio_files            # all releases
    python -m tests.golden.make_trackio_files 0.43.0     # or some
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "trackio_files"
RELEASES = {  # with the huggingface_hub of their time; later ones lack a name that they import
    "0.15.0": "<1",
    "0.17.0": "<1",
    "0.20.2": "<1",
    "0.24.2": "<1.16",
    "0.30.4": "<1.16",
    "0.40.0": "",
    "0.43.0": "",
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "BROWSER": "true"}
LOGS = """
import trackio
trackio.init(project="p", name="live", config={"lr": 0.1, "layers": [1, 2]}, embed=False)
for step in range(5):
    trackio.log({"loss": 1.0 / (step + 1), "big": 2**53 + 1, "nan": float("nan")})
trackio.finish()
trackio.init(project="p", name="other", embed=False)
trackio.log({"loss": 2.0}, step=7)
trackio.finish()
"""


def made(release: str, hub: str, folder: Path) -> str:
    """The project file of a release as SQL."""
    uv = shutil.which("uv")
    if uv is None:
        raise SystemExit("uv is needed: pip install uv")
    python = str(folder / "bin" / "python")
    subprocess.run([uv, "venv", "-q", str(folder)], check=True)
    packages = [f"trackio=={release}", f"huggingface_hub{hub}"]
    subprocess.run([uv, "pip", "install", "-q", "--python", python, *packages], check=True)
    environment = {**os.environ, **OFFLINE, "TRACKIO_DIR": str(folder / "runs")}
    subprocess.run([python, "-c", LOGS], check=True, env=environment)
    return dump(folder / "runs" / "p.db")


def dump(path: Path) -> str:
    """The statements that make an equal file."""
    with closing(sqlite3.connect(path)) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        return "\n".join([*database.iterdump(), f"PRAGMA user_version = {version};\n"])


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for release in sys.argv[1:] or RELEASES:
        with tempfile.TemporaryDirectory() as folder:
            text = made(release, RELEASES[release], Path(folder))
        (FOLDER / f"{release}.sql").write_text(text)


if __name__ == "__main__":
    main()
