"""What holds for every test, however the tests were started and in whatever order they run.

Property tests explore at will here, and repeat the same examples in CI: it must not be chance what
lands.
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

# neither an example nor making one may take too long: that depends on the machine
TIMELESS: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", **TIMELESS, derandomize=True)
settings.register_profile("explore", **TIMELESS)
settings.register_profile("deep", **TIMELESS, max_examples=2000)  # --hypothesis-profile=deep
settings.load_profile("ci" if os.environ.get("CI") else "explore")

# A shell starts a job in the background with SIGINT ignored, and the commands that the tests start
# would inherit that: none of them could be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_fork_server() -> Iterator[None]:
    """`bridge migrate` in the process of the tests starts no fork server: it would keep the
    environment of that moment, and later tests set variables that their workers need.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "start_ahead", lambda: None)
        yield


@pytest.fixture
def strict_warnings() -> Iterator[None]:
    """Warnings are errors, also where pytest's own handling of warnings is off."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
