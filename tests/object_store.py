"""An S3 server for the tests (moto), with an empty bucket named `bucket`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import s3fs

from tests.bounds import until
from tests.servers import free_port


@contextmanager
def object_store() -> Iterator[tuple[dict[str, str], Any]]:
    """The environment variables for the store, and its file system."""
    port = free_port()
    found = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as server:
        try:
            files = s3fs.S3FileSystem(
                key="someone", secret="secret", endpoint_url=found["AWS_ENDPOINT_URL"]
            )
            until(lambda: _bucket(files), server)
            s3fs.S3FileSystem.clear_instance_cache()  # that of another server, in this process
            yield found, files
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.terminate()


def _bucket(files: Any) -> bool:
    try:
        files.mkdir("bucket")
    except OSError:
        return False
    return True
