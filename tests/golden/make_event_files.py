"""Make tests/data/event_files: event files of TensorFlow, Keras and PyTorch, with their points.

A virtual environment is made and thrown away, in which `event_files.py` writes the files. Wall
times are made anew each time. From the repository's root:

    python -m tests.golden.make_event_files
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import DATA

TARGET = DATA / "event_files"
PACKAGES = ["tensorflow-cpu==2.21.0", "torch==2.14.1", "tensorboard==2.21.0"]
WRITER = Path(__file__).with_name("event_files.py")


def main() -> None:
    """Write the files in place of those that are there."""
    with tempfile.TemporaryDirectory(prefix="event-files-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        shutil.rmtree(TARGET, ignore_errors=True)
        subprocess.run([python, str(WRITER), str(TARGET)], check=True)


if __name__ == "__main__":
    main()
