"""`meta.yaml` files, against PyYAML and against what MLflow's releases wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bridges.formats.mlflow_store import meta_yaml
from bridges.formats.mlflow_store.meta_yaml import (
    UNENDED,
    Meta,
    MetaError,
    integer,
    read_meta,
    text,
)
from tests.mlflow_stores import RELEASES, unpack_store


def as_text(value: Any) -> Any:
    """A value of PyYAML's base loader, as `read_meta` gives it."""
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if isinstance(each, str)}
    return {} if isinstance(value, list) else value


def by_pyyaml(data: str) -> dict[str, Any]:
    """All scalars as text, but null as None."""
    plain = yaml.load(data, Loader=yaml.BaseLoader)
    typed = yaml.load(data, Loader=yaml.SafeLoader)
    return {key: None if typed[key] is None else as_text(value) for key, value in plain.items()}


@pytest.mark.parametrize("release", RELEASES)
def test_all_files_of_a_store(release: str, tmp_path: Path) -> None:
    paths = [*unpack_store(release, tmp_path).rglob("meta.yaml")]
    assert len(paths) > 10
    for path in paths:
        assert read_meta(path.read_bytes()) == by_pyyaml(path.read_text())


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
values = st.one_of(
    texts,
    st.none(),
    st.integers(),
    st.just({}),
    st.just([]),
    st.dictionaries(texts, texts, max_size=2),
)
KEYS = ("run_id", "name", "status", "tags")


@given(st.dictionaries(st.sampled_from(KEYS), values, min_size=1), st.sampled_from(["\n", "\r\n"]))
def test_what_pyyaml_writes(content: dict[str, Any], end: str) -> None:
    written = yaml.safe_dump(content, default_flow_style=False, allow_unicode=True)
    read = read_meta(written.replace("\n", end).encode())
    expected = {
        key: value if value is None or isinstance(value, (str, dict)) else as_text(value)
        if isinstance(value, list) else str(value)
        for key, value in content.items()
    }  # fmt: skip
    assert read == expected


odd_values = st.text("ab1-:#'\"[]{}~ .%@&*!|>\\é\u2028", max_size=8)
odd_lines = st.one_of(
    st.builds("{}: {}".format, st.sampled_from(KEYS), odd_values),
    st.text("ab: '-\t#", max_size=6),
)


@given(st.lists(odd_lines, min_size=1, max_size=3))
def test_the_fast_way_reads_what_pyyaml_reads(lines: list[str]) -> None:
    data = "".join(f"{line}\n" for line in lines)
    assert outcome(read_meta, data) == outcome(meta_yaml._from_nodes, data)


def outcome(read: Any, data: str) -> Meta | str:
    try:
        return dict(read(data.encode() if read is read_meta else data))
    except MetaError as error:
        return "" if not data.strip() else error.found


def test_a_file_that_may_be_cut_is_marked() -> None:
    assert read_meta(b"run_id: a\nstart_time: 16") == {
        "run_id": "a",
        "start_time": "16",
        UNENDED: None,
    }


def test_ids_of_digits_stay_text() -> None:
    meta = read_meta(f"run_id: {'0' * 31}1\nother: {'0' * 28}1e10\nexperiment_id: 010\n".encode())
    assert [*meta.values()] == ["0" * 31 + "1", "0" * 28 + "1e10", "010"]


def test_aliases_are_not_expanded() -> None:
    laughs = "a: &a [x]\n" + "".join(
        f"{key}: &{key} [{', '.join([f'*{last}'] * 9)}]\n"
        for last, key in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert read_meta(f"{laughs}run_id: r\n".encode())["run_id"] == "r"


@pytest.mark.parametrize(
    ("data", "found", "place"),
    [
        (b"", "an empty file", ""),
        (b"\0" * 100, "zero bytes only", ""),
        (b"a: b\nname: \xe9\n", "bytes other than UTF-8 text", "line 2"),
        (b"a: [1\nb: }", "invalid YAML", "line 2"),
        (b"just text", "YAML without a mapping", ""),
        (b"- a\n", "YAML without a mapping", ""),
        (b"a: b\n<<<<<<< HEAD\n", "a merge conflict of git", "line 2"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", ""),
        (b"a: '" + b"x" * 2**20 + b"\n", "1,048,581 characters", ""),
    ],
)
def test_other_content_is_named(data: bytes, found: str, place: str) -> None:
    with pytest.raises(MetaError) as caught:
        read_meta(data)
    assert caught.value.found == found
    assert caught.value.place.startswith(place)


@pytest.mark.parametrize(
    "data",
    [
        b"a: " + b"[" * 10**5,
        b"a: " + b"[" * 10**5 + b"]" * 10**5,
        b"a:\n " + b"- " * 10**5 + b"x\n",
        b"{a: " * 10**5 + b"1" + b"}" * 10**5,
    ],
    ids=["open", "closed", "items", "mappings"],
)
def test_deep_values_are_refused(data: bytes) -> None:
    with pytest.raises(MetaError, match=r"YAML of more than 100 levels|invalid YAML") as caught:
        read_meta(data)
    assert caught.value.place.startswith("line ")


@pytest.mark.parametrize(
    ("value", "number"),
    [("5", 5), ("-5", -5), ("", None), ("5.0", None), ("9" * 19, None), ("9" * 10**6, None)],
)
def test_integers(value: str, number: int | None) -> None:
    assert integer({"a": value}, "a") == number
    assert text({"a": None, "b": {}}, "a") == text({"b": {}}, "b") == ""
