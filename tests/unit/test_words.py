"""The check of the language of docstrings, comments and README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import words

SOURCE = '''"""Reads a run."""


def read() -> str:
    """What it tells, as `what` there is."""
    # the whole of it,
    # that of which nothing is known
    return "what is in a string is no prose"
'''


def test_docstrings_and_comments_are_read_and_strings_are_not() -> None:
    assert [block for block in words.source_prose(SOURCE) if block] == [
        "Reads a run.",
        "What it tells, as `what` there is.",
        "the whole of it, that of which nothing is known",
    ]


def test_habits_are_counted_per_thousand_words_without_code() -> None:
    found = words.measured(words.source_prose(SOURCE))
    each = 1000 / 20  # a code span counts as one word
    assert {name: found[name] for name in words.HABITS} == pytest.approx(
        dict.fromkeys(words.HABITS, each)
    )
    assert found[words.P90] == 10


def test_a_page_is_read_without_code_tables_and_headings() -> None:
    page = "# What\n\n| what | that |\n\n```\nwhat\n```\n- One [link](what.md).\n- Two.\n"
    found = words.measured(words.page_prose(page))
    assert found["what"] == 0
    assert found[words.P90] == 2


def test_a_figure_above_its_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(words.LIMITS, "src", {"what": 49.9, "there": 50.0})
    (problem,) = words.excesses({"src": words.measured(words.source_prose(SOURCE))})
    assert problem.startswith(
        "src: 50.0 uses of 'what' per 1,000 words; expected no more than 49.9"
    )


def test_the_check_fails_and_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text(SOURCE)
    (tmp_path / "README.md").write_text("A sentence.\n")
    monkeypatch.setattr(words, "ROOT", tmp_path)
    assert words.main(["-v"]) == 1
    output = capsys.readouterr().out
    assert "sqlite-utils" in output
    assert "src: 50.0 uses of 'whole'" in output
