"""A folder of offline runs: its index, and atomic publishing of new runs.

The folder is listed again only if another program changed it. Each publish sets the folder's mtime
to a unique value and appends (old mtime, new mtime, name) to a journal, so other bridges processes
can follow without listing.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from bridges.exporters.atomic_files import HAS_FLOCK, sync_directory
from bridges.exporters.base import ConflictError

KEY_DIGITS = 10  # digits of the run key in a run's id
STAMP = "%Y%m%d_%H%M%S"
PREFIX, STAMP_SIZE = "offline-run-", 15
ID_AT = len(PREFIX) + STAMP_SIZE + 1  # in a directory's name
STAGING = ".bridges"  # subfolder of unpublished directories; `wandb sync` ignores it
JOURNAL = "journal"  # in STAGING; lines of old mtime, new mtime, name
LOCK = "lock"  # in STAGING, on systems without directory locks
MTIME_RESOLUTION = 1_000_000_000  # nanoseconds; coarser than any mtime clock
ABANDONED_SECONDS = 86_400.0  # age of an unpublished directory of a killed export


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
        """The start of the part, to the second."""
        name = os.path.basename(os.path.dirname(self.path)).removeprefix(PREFIX)
        return datetime.strptime(name[:STAMP_SIZE], STAMP).replace(tzinfo=timezone.utc)

    @property
    def is_synced(self) -> bool:
        """Whether `wandb sync` has processed the file; the server may have rejected rows."""
        return os.path.exists(f"{self.path}.synced")


def parts_of(run_id: str, places: list[Place]) -> list[Place]:
    """The parts of a run among `places`."""
    return [place for place in places if place.run_id == run_id]


class RunFolder:
    """The offline runs in a folder; it may not exist yet."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._names: dict[str, list[str]] = {}
        self._changed: int | None = None  # the folder's mtime when `_names` was current
        self._read = 0  # bytes of the journal
        self._is_swept = False

    def places(self, key: str) -> list[Place]:
        """The parts of all runs with ids that begin with these digits, sorted by name."""
        self._look()
        return self._places(key)

    def parts(self, run_id: str) -> list[Place]:
        """The parts of a run in order."""
        return parts_of(run_id, self.places(run_id))

    def newest(self) -> list[Place]:
        """The last part of each run."""
        self._look()
        places = (place for key in self._names for place in self._places(key))
        return list({place.run_id: place for place in places}.values())

    def _places(self, key: str) -> list[Place]:
        names = self._names.get(key[:KEY_DIGITS], [])
        return [self._place(name) for name in sorted(names)]

    def _place(self, name: str) -> Place:
        return Place(os.path.join(self.path, name, f"run-{name[ID_AT:]}.wandb"))

    def _look(self) -> None:
        try:
            with self.locked():
                self._refresh()
        except FileNotFoundError:
            self._names, self._changed = {}, None

    def _refresh(self) -> None:
        """Update the index, under the lock: a publish and its journal line are two steps."""
        changed = os.stat(self.path).st_mtime_ns
        if changed == self._changed:
            return
        news = self._journal()
        if not self._follow(news, changed):
            self._names = {}
            for name in os.listdir(self.path):
                if name.startswith(PREFIX):
                    self._add_name(name)
            is_ours = bool(news) and news[-1][1] == changed
            # another program may still change the folder without changing its mtime
            is_final = is_ours or time.time_ns() - changed > MTIME_RESOLUTION
            self._changed = changed if is_final else None

    def _follow(self, news: list[tuple[int, int, str]], changed: int) -> bool:
        """Whether the journal explains all changes up to this mtime of the folder."""
        at, names = self._changed, []
        for before, after, name in news:
            if before == at:
                at = after
                names.append(name)
        if at != changed:
            return False
        for name in names:
            self._add_name(name)
        self._changed = changed
        return True

    def _journal(self) -> list[tuple[int, int, str]]:
        """The unread lines of the journal."""
        with suppress(OSError), open(os.path.join(self.path, STAGING, JOURNAL), "rb") as file:
            is_new = file.seek(0, os.SEEK_END) < self._read  # the folder was emptied
            self._read = file.seek(0 if is_new else self._read)
            found = file.read()
            self._read += len(found)
            lines = (line.split() for line in found.decode(errors="replace").splitlines())
            good = (line for line in lines if len(line) == 3 and (line[0] + line[1]).isdigit())
            return [(int(before), int(after), name) for before, after, name in good]
        return []

    def _add_name(self, name: str) -> None:
        self._names.setdefault(name[ID_AT : ID_AT + KEY_DIGITS], []).append(name)

    def new_name(self, start: int, run_id: str, parts: list[Place]) -> str:
        """The directory name of a new part; `start` is in microseconds, and names sort by part."""
        stamp = datetime.fromtimestamp(start / 1e6, timezone.utc)
        if parts:
            stamp = max(stamp, parts[-1].stamp + timedelta(seconds=1))
        return f"{PREFIX}{stamp:{STAMP}}-{run_id}"

    @contextmanager
    def staged(self) -> Iterator[str]:
        """A hidden directory for writing; it is removed unless it is published."""
        staged = os.path.join(self.path, STAGING, os.urandom(6).hex())
        try:
            os.mkdir(staged)
        except FileNotFoundError:
            os.makedirs(staged)
        self._sweep()
        try:
            yield staged
        finally:
            if os.path.exists(staged):
                shutil.rmtree(staged, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove abandoned directories, once per object."""
        if self._is_swept:
            return
        self._is_swept = True
        with suppress(OSError), os.scandir(os.path.join(self.path, STAGING)) as entries:
            for entry in entries:
                if entry.is_dir() and time.time() - entry.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(entry.path, ignore_errors=True)

    def publish(self, staged: str, name: str, key: str, known: list[Place]) -> str:
        """Rename a staged directory to its name; return the path of its file.

        Raises ConflictError if the runs with this key differ from `known`.
        """
        folder = os.path.join(self.path, name)
        with self.locked():
            self._refresh()
            if self._places(key) != known:
                raise ConflictError
            os.rename(staged, folder)
            self._add_name(name)
            self._sign(name)
        sync_directory(self.path)
        return self._place(name).path

    def _sign(self, name: str) -> None:
        """Set a unique mtime on the folder, if the file system stores nanoseconds."""
        now = time.time_ns()
        with suppress(OSError):
            with open(os.path.join(self.path, STAGING, JOURNAL), "a") as journal:
                journal.write(f"{self._changed or 0} {now} {name}\n")
            os.utime(self.path, ns=(now, now))
        self._changed = now if os.stat(self.path).st_mtime_ns == now else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold an exclusive lock on the folder. Raises FileNotFoundError without a folder.

        `flock` locks the folder itself, so reading creates no file. `filelock` needs a lock file:
        it is in the staging directory, which exists after the first publish.
        """
        if not HAS_FLOCK:
            from filelock import FileLock

            os.stat(self.path)
            staging = os.path.join(self.path, STAGING)
            with FileLock(os.path.join(staging, LOCK)) if os.path.isdir(staging) else nullcontext():
                yield
            return
        import fcntl

        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
