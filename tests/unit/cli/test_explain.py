"""`bridge explain`: one code, several, all of them, and near names for a typo."""

from __future__ import annotations

import json
from unittest import mock

import click
import pytest

from bridges.cli.main import app
from bridges.cli.main import run as bridge
from bridges.findings import GROUPS, explanations


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert bridge(["explain", *arguments]) == code
    out, err = capsys.readouterr()
    return err if code else out


@pytest.mark.parametrize("code", ["clock-synthetic", "tag-collision", "failed"])
def test_a_code_with_its_meaning_and_what_to_do(
    capsys: pytest.CaptureFixture[str], code: str
) -> None:
    entry = explanations()[code]
    head, *text = printed(capsys, code).splitlines()
    assert head.split()[0] == code
    assert head.endswith(GROUPS[entry.group])
    assert all(severity.value in head for severity in entry.severities)
    at = text.index("  To do:")
    assert " ".join(map(str.strip, text[:at])) == entry.meaning
    assert " ".join(map(str.strip, text[at + 1 :])) == entry.action
    assert max(map(len, text)) <= 100


def test_several_codes_and_capitals(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "Clock-Synthetic", "forked").splitlines()
    assert [line.split()[0] for line in lines if line and line[0] != " "] == [
        "clock-synthetic",
        "forked",
    ]


def test_all_codes_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    assert [line for line in lines if not line.startswith("  ")] == [*GROUPS.values()]
    assert {line.split()[0] for line in lines if line.startswith("  ")} == {*explanations()}


@pytest.mark.parametrize("width", ["80", "120"])
def test_the_list_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    with mock.patch("sys.stdout.isatty", return_value=True, create=True):
        lines = [click.unstyle(line) for line in printed(capsys).splitlines()]
    assert max(map(len, lines)) <= int(width)
    assert any(line.endswith("…") for line in lines)


def test_a_typo(capsys: pytest.CaptureFixture[str]) -> None:
    err = printed(capsys, "clock-synthetik", code=2)
    assert "there is no finding code 'clock-synthetik'. Did you mean 'clock-synthetic'" in err
    assert "`bridge explain` lists all codes." in printed(capsys, "xyzzy", code=2)


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = json.loads(printed(capsys, "forked", "--json"))["findings"]
    assert entry["code"] == "forked"
    assert {*entry} == {"code", "group", "severities", "meaning", "action"}
    assert len(json.loads(printed(capsys, "--json"))["findings"]) == len(explanations())


def test_codes_complete() -> None:
    assert isinstance(app, click.Group)
    command = app.get_command(click.Context(app), "explain")
    assert command
    context = click.Context(command)
    (argument,) = [one for one in command.get_params(context) if one.name == "codes"]
    found = [item.value for item in argument.shell_complete(context, "clock-s")]
    assert found == ["clock-source", "clock-synthetic"]
