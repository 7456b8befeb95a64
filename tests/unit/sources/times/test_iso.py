"""Times in ISO 8601, as Python 3.10 and later releases must read them alike."""

from __future__ import annotations

import pytest

from bridges.sources.times.iso import microseconds

SECOND = 1_700_000_000_000_000  # 2023-11-14 22:13:20 UTC, in microseconds since 1970


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-11-14T22:13:20Z", SECOND),
        ("2023-11-14 22:13:20", SECOND),
        ("2023-11-14T22:13:20.5", SECOND + 500_000),
        ("2023-11-14T22:13:20.25Z", SECOND + 250_000),
        ("2023-11-14T22:13:20.0625Z", SECOND + 62_500),
        ("2023-11-14T22:13:20.123456Z", SECOND + 123_456),
        ("2023-11-14T22:13:20.123456789Z", SECOND + 123_456),
        ("2023-11-14T22:13:20,123Z", SECOND + 123_000),
        ("2023-11-15T00:13:20.5+02:00", SECOND + 500_000),
        ("2023-11-14", SECOND - (22 * 3600 + 13 * 60 + 20) * 1_000_000),
        ("1969-12-31T23:59:59.75Z", -250_000),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000_000),
        ("", 0),
        ("soon", 0),
        (None, 0),
        (1.5, 0),
    ],
)
def test_a_time_is_microseconds_since_1970(text: object, expected: int) -> None:
    assert microseconds(text) == expected
