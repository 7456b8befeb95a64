"""Artifacts of a tracking server, through its REST API.

A proxying server (`mlflow-artifacts:` locations) stores and sends their files.
Other servers have artifacts on their own disk or in an object store; they send the files of runs
and logged models as to MLflow's page.
"""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from bridges.errors import ExportError
from bridges.exporters.mlflow.artifact_copy.listed_tree import Items, ListedTree
from bridges.exporters.mlflow.artifact_copy.trees import (
    Content,
    FileError,
    check_path,
    digest_of,
)
from bridges.formats.mlflow_store.rest import RestClient, text_of
from bridges.http import FileBody, NoAnswerError

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
SCHEME = "mlflow-artifacts"
CHANGED = frozenset("%#?")  # the server decodes paths twice, and cuts them
MAX_PAGES = 10_000  # of a directory


class ServerTree(ListedTree):
    """A directory on a server."""

    def __init__(self, client: RestClient) -> None:
        super().__init__()
        self._client = client

    @abstractmethod
    def _pages(self, folder: str) -> Iterator[Mapping[str, Any]]:
        """The answers with the `files` of a directory."""

    @abstractmethod
    def _url(self, path: str) -> str:
        """The path of the request for a file."""

    def items(self, folder: str) -> Items:
        """The items of a directory; none if it does not exist. Raises FileError, ExportError."""
        items: Items = {}
        with refusals():
            for page in self._pages(folder):
                with self._client.understood():
                    for each in page.get("files", ()):
                        name = posixpath.basename(text_of(each, "path"))
                        items[name] = bool(each.get("is_dir")), int(each.get("file_size") or 0)
        return items

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file. Raises FileError, ExportError."""
        check_path(path)
        with refusals():
            yield from self._client.server.download(self._url(path), self._client.checked)


class ProxiedTree(ServerTree):
    """The files at a path of a proxying server; they can be written."""

    def __init__(self, client: RestClient, root: str) -> None:
        super().__init__(client)
        self._root = root.strip("/")

    def _pages(self, folder: str) -> Iterator[Mapping[str, Any]]:
        path = f"{self._root}/{folder}".rstrip("/")
        server = self._client.server
        answer = server.request("GET", f"{PROXY}?{urlencode({'path': path})}")
        yield self._client.checked(answer).json()

    def _url(self, path: str) -> str:
        return f"{PROXY}/{quote(f'{self._root}/{path}', errors='surrogateescape')}"

    def put(self, path: str, content: Content) -> None:
        """Upload a file, and read it back. Raises FileError, ExportError."""
        check_path(path)
        if CHANGED.intersection(path):
            raise FileError("MLflow's server changes names with %, # or ?: rename the file")
        body = FileBody(_OfSize(content), content.expected)
        with refusals():
            self._client.checked(self._client.server.request("PUT", self._url(path), body))
        if digest_of(self.chunks(path)) != content.digest:
            raise FileError("other bytes were read back than were sent")
        self.has_written(path, content)


class RunTree(ServerTree):
    """The files of a run, as the server sends them to its page."""

    def __init__(self, client: RestClient, run_id: str) -> None:
        super().__init__(client)
        self._run_id = run_id

    def _pages(self, folder: str) -> Iterator[Mapping[str, Any]]:
        wanted = {"run_id": self._run_id, **({"path": folder} if folder else {})}
        for _ in range(MAX_PAGES):
            page = self._client.get("artifacts/list", wanted)
            yield page
            if not page.get("next_page_token"):
                return
            wanted["page_token"] = page["next_page_token"]
        raise FileError("the server's listing does not end")

    def _url(self, path: str) -> str:
        query = {"run_uuid": self._run_id, "path": path}
        return f"/get-artifact?{urlencode(query, errors='surrogateescape')}"


class ModelTree(ServerTree):
    """The files of a logged model, as the server sends them to its page."""

    def __init__(self, client: RestClient, model_id: str) -> None:
        super().__init__(client)
        self._id = quote(model_id, safe="")

    def _pages(self, folder: str) -> Iterator[Mapping[str, Any]]:
        wanted = {"artifact_directory_path": folder} if folder else {}
        yield self._client.get(f"logged-models/{self._id}/artifacts/directories", wanted)

    def _url(self, path: str) -> str:
        query = urlencode({"artifact_file_path": path}, errors="surrogateescape")
        return f"/ajax-api/2.0/mlflow/logged-models/{self._id}/artifacts/files?{query}"


def proxied_root(location: str, url: str) -> str | None:
    """The path of a location proxied by the server at `url`; None for other locations."""
    parts = urlsplit(location)
    if parts.scheme == SCHEME and parts.netloc in ("", urlsplit(url).netloc):
        return parts.path
    prefix = f"{url.rstrip('/')}{PROXY}/"
    return location.removeprefix(prefix) if location.startswith(prefix) else None


class _OfSize:
    """The chunks of a file. Raises FileError if its size is another one than announced."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        left = self._content.expected
        for chunk in self._content:
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
        if left:
            raise FileError("it changes while it is read")


@contextmanager
def refusals() -> Iterator[None]:
    """Raise errors of a request, but not the silence of a server, as FileError."""
    try:
        yield
    except NoAnswerError:
        raise
    except ExportError as error:
        raise FileError(str(error)) from error
