"""Artifacts at any location within reach of the installed mlflow, such as `s3://`.

mlflow takes and gives files on disk only: each file is kept in a temporary directory for a moment.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bridges.errors import BridgeError
from bridges.exporters.atomic_files import write_file
from bridges.exporters.mlflow.artifact_copy.listed_tree import Items, ListedTree
from bridges.exporters.mlflow.artifact_copy.local_tree import read_chunks
from bridges.exporters.mlflow.artifact_copy.trees import (
    Content,
    FileError,
    check_path,
    digest_of,
)
from bridges.formats.mlflow_store.client import message_of, open_artifacts

OBJECT_STORES = ("s3:", "gs:", "wasb:", "wasbs:", "abfs:", "abfss:", "r2:", "oss:", "hdfs:",
                 "viewfs:", "dbfs:")  # fmt: skip


class ClientTree(ListedTree):
    """The files at a location; `server` is the URL of the proxying server, if any.

    Raises FileError.
    """

    def __init__(self, location: str, server: str = "") -> None:
        super().__init__()
        self._files: Any
        with _errors():
            self._files = open_artifacts(location, server)

    def items(self, folder: str) -> Items:
        """The items of a directory; none if it does not exist. Raises FileError."""
        with _errors():
            found = self._files.list_artifacts(folder or None)
            return {
                posixpath.basename(each.path): (each.is_dir, int(each.file_size or 0))
                for each in found
            }

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file. Raises FileError."""
        check_path(path)
        with tempfile.TemporaryDirectory() as folder:
            with _errors():
                local = self._files.download_artifacts(path, folder)
            yield from read_chunks(local)

    def put(self, path: str, content: Content) -> None:
        """Upload a file, and read it back. Raises FileError, ExportError."""
        check_path(path)
        parent, name = posixpath.split(path)
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, name)
            write_file(local, content)
            with _errors():
                self._files.log_artifact(local, parent or None)
        if digest_of(self.chunks(path)) != content.digest:
            raise FileError("other bytes were read back than were sent")
        self.has_written(path, content)


@contextmanager
def _errors() -> Iterator[None]:
    """Raise errors of mlflow and its dependencies as FileError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about mlflow's internals
            yield
    except BridgeError as error:
        raise FileError(str(error)) from error
    except Exception as error:  # deliberately broad: each object store raises its own errors
        raise FileError(message_of(error)) from error
