"""The source for logs of tuning tools. What reads them is imported on first use."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bridges.errors import SourceError
from bridges.sources.base import FileSource
from bridges.sources.file_names import TOOL_LOG_NAME
from bridges.sources.options import ReadOptions
from bridges.sources.text import load
from bridges.sources.tuning_logs.formats import recognise
from bridges.stream.model import Run


class TrainerLogSource(FileSource):
    """Reads logs of LLaMA-Factory and ms-swift.

    A file of Trainer rows is read as such.
    """

    name = "trainer_log"

    def claims(self, location: str) -> bool:
        """Whether the file is named like such a log."""
        return TOOL_LOG_NAME.match(re.split(r"[/\\]", location)[-1]) is not None

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The run of the log. Raises SourceError."""
        from bridges.sources.tuning_logs.tool_log import read

        yield read(location, options)


def is_log(location: str, max_unpacked: int | None = None) -> bool:
    """Whether the content of a file is a tuning tool's log.

    True for an unreadable file, so that reading it reports the error.
    """
    try:
        return recognise(load(location, salvage=True, max_unpacked=max_unpacked).data) is not None
    except SourceError:
        return True
