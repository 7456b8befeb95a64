"""Property tests explore at will here, and repeat the same examples in CI: it must not be chance
what lands."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.register_profile("deep", deadline=None, max_examples=2000)  # --hypothesis-profile=deep
settings.load_profile("ci" if os.environ.get("CI") else "explore")
