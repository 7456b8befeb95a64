"""Some targets use only what plug-ins of other packages may use."""

from __future__ import annotations

import re

import pytest

from tests.support import REPOSITORY
from tests.unit.test_imports import PACKAGE, imports

TARGETS = ("tables", "trackio")
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("[start:target]")[2]
SEAMS = re.findall(r"^\|.*\| `(bridges[\w.]*)` \|$", PAGE, re.MULTILINE)


def test_the_seams_are_listed() -> None:
    assert len(SEAMS) == len({*SEAMS}) == 8


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_imports_the_seams_only(target: str) -> None:
    own = f"bridges.exporters.{target}"
    found = {
        (path.name, module)
        for path in (PACKAGE / "exporters" / target).glob("*.py")
        for module in imports(path, resolved=False)
    }
    assert len(found) > len(SEAMS)
    others = {(file, module) for file, module in found if not module.startswith(own)}
    assert {each for each in others if each[1] not in SEAMS} == set()
