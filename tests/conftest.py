"""Settings and fixtures of all tests.

Property tests use random examples by default, and the same examples in every CI run.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from bridges.migration import executors

# no time limits, as durations depend on the machine
TIMELESS: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", **TIMELESS, derandomize=True)
settings.register_profile("explore", **TIMELESS)
settings.register_profile("deep", **TIMELESS, max_examples=2000)  # --hypothesis-profile=deep
settings.load_profile("ci" if os.environ.get("CI") else "explore")

# A shell ignores SIGINT in background jobs, and the commands of the tests would inherit this: they
# could not be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_fork_server() -> Iterator[None]:
    """Start no fork server in the test process: it would keep the environment variables of its
    start, but later tests set variables for their workers.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "start_ahead", lambda: None)
        yield


@pytest.fixture
def strict_warnings() -> Iterator[None]:
    """Turn warnings into errors, even if pytest's own handling of warnings is off."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
