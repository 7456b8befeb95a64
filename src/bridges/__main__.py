"""`python -m bridges`, and the command `bridge`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with its code (see README.md for the table)."""
    # scanning for pydantic plug-ins would take a tenth of a small export
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # NumPy would start threads for matrix products, which no command computes
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from bridges.cli.main import run

    sys.exit(run())


if __name__ == "__main__":
    main()
