"""YAML settings: whatever the text, plain values or one of two errors."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from bridges.sources.sidecars.yaml_settings import read_yaml

PIECES = st.sampled_from(
    [
        *"abx01:-,[]{}&*!|>'\"#\n ",
        *("!!", "!!int ", "!!bool ", "!!float ", "!!binary ", "!!set ", "!!timestamp ", "!!omap "),
        *("!!pairs ", "!!python/name:os.x ", "<<: ", "*a", "&a ", "---\n", "2024-01-02", "1:30"),
        *("0x", ".nan", "a: ", "\n  ", "- ", "? "),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(PIECES, max_size=40).map("".join) | st.text())
def test_any_text_is_settings_or_an_error(text: str) -> None:
    with suppress(ValueError, TypeError, RecursionError):
        json.dumps(read_yaml(text.encode(errors="surrogatepass")))


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_what_was_written_comes_back(settings: dict[str, Any]) -> None:
    assert read_yaml(yaml.safe_dump(settings).encode()) == settings
