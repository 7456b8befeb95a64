"""Reads times in ISO 8601, as W&B's servers and tables of other programs write them."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FRACTION = re.compile(r"(?<=:\d\d)[.,](\d+)")


def microseconds(value: object) -> int:
    """The time in microseconds since 1970 UTC; a text without a zone is in UTC.

    Digits after the sixth of a fraction are cut. 0 for other values than ISO times.
    """
    # Python 3.10 knows neither Z nor fractions of other than 3 or 6 digits
    text = _FRACTION.sub(lambda found: f".{found[1]:0<6.6}", str(value).replace("Z", "+00:00"))
    try:
        time = datetime.fromisoformat(text)
        span = (time if time.tzinfo else time.replace(tzinfo=timezone.utc)) - _EPOCH
    except (ValueError, OverflowError):
        return 0
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds
