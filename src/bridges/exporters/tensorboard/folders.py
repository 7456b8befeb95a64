"""Runs kept in several directories by their source, such as `train` and `validation`.

They are written back into these. The segment of a run has the points of its own directory, and
lists the others. Each of these has a part: a file named after the segment and the digest of the
history. The segment is published last, and parts without their segment do not count.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bridges.exporters.atomic_files import sync_directory, unlink, write_file
from bridges.exporters.tensorboard.names import part_name, partial_name, segment_of
from bridges.exporters.tensorboard.records import part_records
from bridges.exporters.tensorboard.segments import Segment, names_in, read_event_file
from bridges.formats.events.content import EventFile
from bridges.stream.layout import Layout


@dataclass(frozen=True)
class Parts:
    """The parts beside a segment, by their paths below the directory of the run."""

    paths: Sequence[str]

    @classmethod
    def write(cls, layout: Layout, start: int, directory: str, segment: str) -> Parts:
        """Write the parts of a run under hidden names, which readers ignore."""
        name = part_name(segment, layout.digest)
        paths = [os.path.join(folder, name) for folder in sorted({*layout.run.folders.values()})]
        for path in paths:
            folder = os.path.dirname(path)
            os.makedirs(os.path.join(directory, folder), exist_ok=True)
            write_file(_hidden(directory, path), part_records(layout, start, _slashes(folder)))
        return cls(paths)

    def publish(self, directory: str) -> None:
        """Give the parts their names; the same parts of another export are replaced."""
        for path in self.paths:
            os.replace(_hidden(directory, path), os.path.join(directory, path))
            sync_directory(os.path.dirname(os.path.join(directory, path)))

    def withdraw(self, directory: str, published: Iterable[Segment]) -> None:
        """Remove the parts, unless another export published a segment with them."""
        for path in self.paths:
            unlink(_hidden(directory, path))
            names = (
                part_name(os.path.basename(each.path), each.state.digest) for each in published
            )
            if os.path.basename(path) not in {*names}:
                unlink(os.path.join(directory, path))

    def remove_leftovers(self, directory: str, published: Iterable[Segment]) -> None:
        """Remove parts of killed exports: those of a segment published with another history."""
        digests = {os.path.basename(each.path): each.state.digest for each in published}
        for folder in {os.path.dirname(path) for path in self.paths}:
            for name in names_in(os.path.join(directory, folder)):
                segment = segment_of(name)
                if segment in digests and name != part_name(segment, digests[segment]):
                    unlink(os.path.join(directory, folder, name))


def read_parts(path: str, folders: Sequence[str], digest: str) -> Iterator[tuple[str, EventFile]]:
    """The parts of the segment at a path, each with the prefix of its tags. Raises VerifyError."""
    directory, name = os.path.split(path)
    for folder in folders:
        part = os.path.join(directory, *folder.split("/"), part_name(name, digest))
        yield f"{folder}/", read_event_file(part)


def _hidden(directory: str, path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(directory, folder, partial_name(name))


def _slashes(path: str) -> str:
    return path.replace(os.sep, "/")
