"""The table of finding codes holds every code that the package can report, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridges.findings import GROUPS, explanations
from tests.finding_codes import FindingCodes, UnresolvedError
from tests.support import REPOSITORY

MADE = FindingCodes(REPOSITORY / "src" / "bridges").made()


def test_every_code_of_the_source_is_explained() -> None:
    unknown = {(made.code, made.where) for made in MADE if made.code not in explanations()}
    assert not unknown, "add these codes to src/bridges/findings.toml"


def test_every_explained_code_is_in_the_source() -> None:
    assert {*explanations()} - {made.code for made in MADE} == set()


def test_the_severities_are_those_of_the_source() -> None:
    for code, entry in explanations().items():
        possible = [made.severities for made in MADE if made.code == code]
        told = {severity.value for severity in entry.severities}
        assert told <= set().union(*possible) or not all(possible), code
        certain = (each for each in possible if len(each) == 1)
        assert set().union(*certain) <= told, code


def test_every_entry_is_whole() -> None:
    assert [*GROUPS] == [*dict.fromkeys(entry.group for entry in explanations().values())]
    for entry in explanations().values():
        assert entry.severities
        for text in (entry.meaning, entry.action):
            assert text.endswith("."), entry.code


SOURCE = """
NAME = "from-a-constant"
def maker(is_a, code="by-default"):
    return Finding(code, Severity.LOSS if is_a else Severity.INFO, "", "")
def user():
    maker(True, "by-position")
    maker(True, code="by-name")
    for kind, _ in (("in-a-loop", 1), ("in-a-loop-too", 2)):
        Finding.at_rows(kind, Severity.WARNING, [], "")
    code = "one-way" if x else "another-way"
    Finding(code, Severity.ERROR, "", "")
    replace(found, code=NAME)
"""


def test_codes_are_followed_through_functions_loops_and_constants(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(SOURCE)
    made = {each.code: each.severities for each in FindingCodes(tmp_path).made()}
    assert made == {
        "by-default": {"info", "loss"},
        "by-position": {"info", "loss"},
        "by-name": {"info", "loss"},
        "in-a-loop": {"warning"},
        "in-a-loop-too": {"warning"},
        "one-way": {"error"},
        "another-way": {"error"},
        "from-a-constant": set(),
    }


def test_a_code_that_cannot_be_followed_fails(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def f():\n    Finding(g(), Severity.INFO, '', '')\n")
    with pytest.raises(UnresolvedError, match=r"give the finding's code as a text, found g\(\)"):
        FindingCodes(tmp_path).made()
