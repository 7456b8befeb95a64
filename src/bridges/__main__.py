"""`python -m bridges`, and the command `bridge`: errors become one line and an exit code."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with its code (see README.md for the table)."""
    # no pydantic plug-in has a say here, and looking for them costs a tenth of a small export
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from bridges.cli.main import run

    sys.exit(run())


if __name__ == "__main__":
    main()
