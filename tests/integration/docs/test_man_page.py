"""The manual page has every command and option, and `man` shows it without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess

from docs import commands

from tests.servers import missing
from tests.support import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference" / "bridge.1"
MACROS = {"TH", "SH", "SS", "PP", "TP", "RS", "RE", "nf", "fi"}


def test_each_line_is_text_or_a_known_macro() -> None:
    note, *lines = PAGE.read_text("utf-8").splitlines()
    assert note.startswith('.\\"')
    assert {line[1:].split()[0] for line in lines if line.startswith(".")} == MACROS
    assert not [line for line in lines if line.startswith("'") or not line]


def test_man_shows_every_command_and_option() -> None:
    if shutil.which("man") is None:
        missing("man", "install man-db")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(PAGE)],
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "400", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(r"[ \n]+", " ", done.stdout)
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS"):
        assert f"\n{section}\n" in done.stdout
    for page in commands.pages():
        assert page.usage in shown
        for paragraph in page.paragraphs:
            assert paragraph.text.rstrip(":") in shown or paragraph.text == "Exit codes:"
            assert all(" ".join(line.split()) in shown for line in paragraph.block.splitlines())
        for option in page.options:
            assert f"{option.names} {option.help}" in shown
