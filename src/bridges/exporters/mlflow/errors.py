"""Translates errors of the installed mlflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bridges.errors import BridgeError, ExportError
from bridges.exporters.base import ConflictError
from bridges.formats.mlflow_store.client import message_of

NO_FILES = (
    "the installed mlflow does not write file stores, and a path without a scheme is a file store. "
    "Export to a database such as sqlite:///mlflow.db (`mlflow migrate-filestore` copies old runs "
    "into it), or set MLFLOW_ALLOW_FILE_STORE=true."
)


@contextmanager
def mlflow_errors(where: str) -> Iterator[None]:
    """Raise errors of mlflow and its dependencies as ExportError; `where` names the store."""
    try:
        yield
    except (BridgeError, ConflictError):
        raise
    except Exception as error:  # deliberately broad: stores may be plug-ins of mlflow
        if getattr(error, "error_code", "") == "RESOURCE_ALREADY_EXISTS":
            raise ConflictError from None
        said = message_of(error)
        if "maintenance mode" in said:
            said = NO_FILES
        away = _is_unreachable(error)
        raise ExportError(f"{where}: {said}", transient=away, waited=away) from error


def _is_unreachable(error: Exception) -> bool:
    """Whether the store did not answer: databases give an error code, servers a text."""
    code, said = getattr(error, "error_code", ""), str(error)
    return code == "TEMPORARILY_UNAVAILABLE" or ("API request to" in said and "failed" in said)
