"""A folder of offline runs: which are there, and how a new one appears whole.

The folder is listed again only when something else changed it: what is published here sets its
time of change to one that nobody else gives it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from bridges.exporters.base import ConflictError
from bridges.exporters.files import sync_directory

KEY_DIGITS = 10  # of a run's id: what two runs with one beginning share
STAMP = "%Y%m%d_%H%M%S"
PREFIX, STAMP_SIZE = "offline-run-", 15
ID_AT = len(PREFIX) + STAMP_SIZE + 1  # in a directory's name
STAGING = ".bridges"  # where a directory is made: `wandb sync` does not look there
TICK = 1_000_000_000  # nanoseconds, and generously


@dataclass(frozen=True)
class Place:
    """The file of a part: FOLDER/offline-run-STAMP-ID/run-ID.wandb."""

    path: str

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return os.path.basename(self.path)[4:-6]

    @property
    def stamp(self) -> datetime:
        """When the part begins, to the second."""
        name = os.path.basename(os.path.dirname(self.path)).removeprefix(PREFIX)
        return datetime.strptime(name[:STAMP_SIZE], STAMP).replace(tzinfo=timezone.utc)

    @property
    def is_synced(self) -> bool:
        """Whether `wandb sync` has read the file; what the server took is another question."""
        return os.path.exists(f"{self.path}.synced")


class RunFolder:
    """The offline runs in a folder, which need not be there yet."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._names: dict[str, list[str]] = {}
        self._changed: int | None = None  # the folder's time of change that `_names` is for
        self._seen: list[Place] = []

    def places(self, key: str) -> list[Place]:
        """The parts of all runs whose ids begin with these digits, in the order of their names."""
        self._refresh()
        self._seen = self._places(key)
        return self._seen

    def parts(self, run_id: str) -> list[Place]:
        """The parts of a run, in their order."""
        found = self.places(run_id[:KEY_DIGITS])
        return [place for place in found if place.run_id == run_id]

    def newest(self) -> list[Place]:
        """The last part of each run."""
        self._refresh()
        places = (place for key in self._names for place in self._places(key))
        return list({place.run_id: place for place in places}.values())

    def _places(self, key: str) -> list[Place]:
        names = self._names.get(key[:KEY_DIGITS], [])
        return [self._place(name) for name in sorted(names)]

    def _place(self, name: str) -> Place:
        return Place(os.path.join(self.path, name, f"run-{name[ID_AT:]}.wandb"))

    def _refresh(self) -> None:
        try:
            changed = os.stat(self.path).st_mtime_ns
        except FileNotFoundError:
            self._names, self._changed = {}, None
            return
        if changed == self._changed:
            return
        self._names = {}
        for name in os.listdir(self.path):
            if name.startswith(PREFIX):
                self._remember(name)
        # two changes within a tick of the clock have one time
        self._changed = changed if time.time_ns() - changed > TICK else None

    def _remember(self, name: str) -> None:
        self._names.setdefault(name[ID_AT : ID_AT + KEY_DIGITS], []).append(name)

    def new_name(self, start: int, run_id: str, parts: list[Place]) -> str:
        """The directory of a new part, by when it begins (milliseconds), after those there are."""
        stamp = datetime.fromtimestamp(start / 1000.0, timezone.utc)
        if parts:
            stamp = max(stamp, parts[-1].stamp + timedelta(seconds=1))
        return f"{PREFIX}{stamp:{STAMP}}-{run_id}"

    @contextmanager
    def staged(self) -> Iterator[str]:
        """A directory that no reader sees, for what is being written."""
        staged = os.path.join(self.path, STAGING, os.urandom(6).hex())
        try:
            os.mkdir(staged)
        except FileNotFoundError:
            os.makedirs(staged)
        try:
            yield staged
        finally:
            if os.path.exists(staged):
                shutil.rmtree(staged, ignore_errors=True)

    def publish(self, staged: str, name: str, key: str) -> str:
        """Give a directory its name; its file. Raises ConflictError where another run with this
        key has appeared since `places` was asked.
        """
        folder = os.path.join(self.path, name)
        with self.locked():
            self._refresh()
            if self._places(key) != self._seen:
                raise ConflictError
            os.rename(staged, folder)
            self._remember(name)
            self._sign()
        sync_directory(self.path)
        return self._place(name).path

    def _sign(self) -> None:
        """Give the folder a time of change of our own, if it can hold one to the nanosecond."""
        now = time.time_ns()
        with suppress(OSError):
            os.utime(self.path, ns=(now, now))
        self._changed = now if os.stat(self.path).st_mtime_ns == now else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time changes the folder."""
        if os.name != "posix":
            yield
            return
        import fcntl

        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
