"""Claims: of concurrent exports of a run, one succeeds.

A run is built in `.bridges-KEY-RANDOM`, in a file with a random name. Renaming the directory to
`.bridges-KEY` claims the key, as only one directory can have this name. The owner of the claim
reads the journal of published runs (`journal.py`) and renames the directory to the run's own name,
which ends the claim. Renaming the file then publishes the run; until then the next owner may remove
the file. A claim without progress for two seconds is moved away; if its owner is still alive, it
finds its file gone and starts again. A slow clock or a killed owner costs time but never publishes
a run twice.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bridges.exporters.base import ConflictError
from bridges.exporters.tensorboard.names import attempt_name, claim_name, hidden_name
from bridges.exporters.tensorboard.segments import remove_parts

TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)  # the name is in use
CLAIM_SECONDS = 2.0  # until a claim is taken from its owner
POLL_SECONDS = 0.01  # between two attempts to claim


class Attempt:
    """An unpublished run in a log directory; its file is written to `path`."""

    def __init__(self, logdir: str, key: str, name: str) -> None:
        self._claim = os.path.join(logdir, claim_name(key))
        self._directory = os.path.join(logdir, hidden_name(key))
        self._file = attempt_name(name)
        self._name = name
        self._key = key

    @property
    def path(self) -> str:
        """The path of the unpublished file."""
        return os.path.join(self._directory, self._file)

    def begin(self) -> None:
        """Create the hidden directory, and the log directory if needed."""
        os.makedirs(self._directory)

    def claim(self) -> None:
        """Wait for the claim on the key; take it from an owner without progress."""
        owner: list[str] | None = None
        since = 0.0
        while True:
            try:
                return self.move(self._claim)
            except FileExistsError:
                names = _names(self._claim)
            if names != owner:
                owner, since = names, time.monotonic()
            elif time.monotonic() - since > CLAIM_SECONDS:
                discard(self._claim, self._key)
            time.sleep(POLL_SECONDS)

    def move(self, directory: str) -> None:
        """Rename the directory to an unused path or an empty directory.

        Raises FileExistsError for a path in use, ConflictError if the directory is gone.
        """
        try:
            os.rename(self._directory, directory)
        except FileNotFoundError:
            raise ConflictError from None
        except OSError as error:
            if error.errno in TAKEN:
                raise FileExistsError(directory) from error
            raise
        self._directory = directory

    def publish(self) -> str:
        """Rename the file to its final name; return its directory. Raises ConflictError."""
        try:
            os.rename(self.path, os.path.join(self._directory, self._name))
        except FileNotFoundError:
            raise ConflictError from None
        return self._directory

    def withdraw(self) -> None:
        """Remove the file and directory of an unpublished run."""
        with suppress(OSError):
            os.unlink(self.path)
        remove_parts(self._directory, self._key)
        with suppress(OSError):  # another export may own it by now
            os.rmdir(self._directory)


@contextmanager
def attempt(logdir: str, key: str, name: str) -> Iterator[Attempt]:
    """An attempt to write, claim, move and publish a run; any error removes it."""
    made = Attempt(logdir, key, name)
    try:
        made.begin()
        yield made
    except BaseException:
        made.withdraw()
        raise


def discard(path: str, key: str) -> None:
    """Remove a hidden directory; it is renamed first, so its owner notices at once.

    Raises OSError if it cannot be renamed.
    """
    import shutil  # slow to import

    aside = os.path.join(os.path.dirname(path), hidden_name(key))
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        shutil.rmtree(aside, ignore_errors=True)


def _names(directory: str) -> list[str]:
    with suppress(OSError):
        return os.listdir(directory)
    return []
