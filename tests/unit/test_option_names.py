"""Messages name options of the command line, parameters of Python, or keys of a config."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.option_names import CONFIG_KEYS, FIELDS, PARAMETERS
from tests.support import REPOSITORY, state

PACKAGE = REPOSITORY / "src" / "bridges"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z_-]+")
# of other programs; `views` starts and names viewers, `cli` has messages of the command line
OTHER_PROGRAMS = (
    "--backend-store-uri",
    "--samples_per_plugin",
    "--upgrade",
    "tensorboard --logdir",
)
OF_MIGRATE = ("--dry-run", "--engine", "--recheck", "--scheduler")  # not in the config's models
OF_FOLLOW = ("--follow", "--dry-run", "--run-name")  # `bridge export` only


def messages() -> Iterator[tuple[str, str]]:
    """The place and text of each text in the source with an option, docstrings excepted."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in ("cli", "views", "option_names.py"):
            continue
        tree = ast.parse(path.read_text())
        parts = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in node.values
        }
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) not in parts | docstrings and (text := _text(node)) and FLAG.search(text):
                yield f"{path.name}:{getattr(node, 'lineno', 0)}", text


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "{…}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


MESSAGES = [
    pytest.param(text, id=place)
    for place, text in messages()
    if not any(name in text for name in OTHER_PROGRAMS)
]


def test_the_messages_were_found() -> None:
    assert len(MESSAGES) >= 40
    assert {flag for each in MESSAGES for flag in FLAG.findall(str(each.values[0]))} >= {
        *("--salvage", "--force", "--clock", "--wandb-step", "--fill-from-events", "--recheck"),
    }


@pytest.mark.parametrize("text", MESSAGES)
def test_no_message_of_python_names_an_option(text: str) -> None:
    named = PARAMETERS.message(text)
    assert not FLAG.search(named)
    for flag in FLAG.findall(text):
        name = FIELDS[flag].name if flag in FIELDS else flag[2:].replace("-", "_")
        assert re.search(rf"(?<!\w){name}\b", named), named


@pytest.mark.parametrize("text", MESSAGES)
def test_no_message_of_a_migration_names_an_option_of_export(text: str) -> None:
    left = FLAG.findall(CONFIG_KEYS.message(text))
    allowed = OF_FOLLOW if "--follow" in text else OF_MIGRATE
    assert not {*left} - {*allowed}


@pytest.mark.parametrize(
    ("text", "in_python", "in_a_config"),
    [
        ("--x-axis step does not", "x_axis='step' does not", "`x_axis: step` does not"),
        ("--duplicates is 'error'", "duplicates is 'error'", "`duplicates` is 'error'"),
        ("use --force to", "use force=True to", "use `force: true` to"),
        ("with --max-unpacked BYTES.", "with max_unpacked=BYTES.", "with `max_unpacked: BYTES`."),
        ("Give another --run-name.", "Give another run_name.", "Give another `name`."),
        ("Omit --clock for the best", "Omit clock for the best", "Omit `clock` for the best"),
        ("--clock mtimes", "clock='mtimes'", "`clock: mtimes`"),
        ("--mlflow-writer direct: no", "mlflow_writer='direct': no", "`mlflow_writer: direct`: no"),
        ("--tag: found 'mlflow.x'", "tags: found 'mlflow.x'", "`tags`: found 'mlflow.x'"),
        ("x--run-name, /--force, --forces", "x--run-name, /--force, --forces", None),
    ],
)
def test_an_option_with_and_without_its_value(
    text: str, in_python: str, in_a_config: str | None
) -> None:
    assert PARAMETERS.message(text) == in_python
    assert CONFIG_KEYS.message(text) == (in_a_config or text)


ROWS = [{"loss": 1.0, "step": 1}]
LOSSES = [{"loss": 1.0, "epoch": 2.0, "step": 1}, {"loss": 2.0, "epoch": 1.0, "step": 2}]
FALLS = "the epoch falls here, so the x-axis goes back; {} does not"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("falls.json").write_bytes(state(LOSSES))
    Path("cut.json").write_bytes(state(ROWS * 3)[:-20])


def told(report: bridges.BatchReport, code: str) -> list[str]:
    """The messages of the findings of a code."""
    return [each.message for run in report.runs for each in run.findings if each.code == code]


def test_findings_of_a_report_name_parameters() -> None:
    report = bridges.export("falls.json", to="tensorboard", x_axis="epoch")
    assert told(report, "epoch-falls-on-axis") == [FALLS.format("x_axis='step'")]
    assert "--x-axis" not in str(report.as_dict())
    again = bridges.verify("falls.json", to="tensorboard", x_axis="epoch")
    assert told(again, "epoch-falls-on-axis") == [FALLS.format("x_axis='step'")]
    (message,) = told(bridges.export("cut.json", to="tensorboard"), "source")
    assert message.endswith("or read its complete rows with salvage=True.")


def test_findings_of_the_command_line_name_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert bridge(["export", "falls.json", "--to", "tensorboard", "--x-axis", "epoch"]) == 0
    assert FALLS.format("--x-axis step") in capsys.readouterr().out


def test_reports_of_a_followed_run_name_parameters() -> None:
    appended: list[bridges.RunReport] = []
    report = bridges.follow(
        "falls.json",
        to="tensorboard",
        x_axis="epoch",
        interval=0.01,
        idle_timeout=0.02,
        on_append=appended.append,
    )
    assert told(report, "epoch-falls-on-axis") == [FALLS.format("x_axis='step'")]
    assert told(bridges.BatchReport(tuple(appended)), "epoch-falls-on-axis")[0].startswith(
        FALLS.format("x_axis='step'")
    )


CONFIG = """
sources: [falls.json, cut.json]
targets: [{to: tensorboard, x_axis: epoch}]
engine: {workers: 1}
"""


def test_findings_of_a_migration_name_keys_of_its_config(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("m.yaml").write_text(CONFIG)
    assert bridge(["migrate", "m.yaml", "-v"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert FALLS.format("`x_axis: step`") in printed
    assert "read its complete rows with `salvage: true`." in printed


def test_findings_of_the_function_migrate_do_as_well() -> None:
    Path("m.yaml").write_text(CONFIG)
    seen: list[bridges.RunReport] = []
    bridges.migrate("m.yaml", on_report=seen.append)
    report = bridges.migrate("m.yaml", on_report=seen.append)
    (known,) = told(report, "known-by-its-files")
    assert known.endswith("; recheck=True reads it again")
    assert told(bridges.BatchReport(tuple(seen)), "known-by-its-files") == [known]
    with pytest.raises(bridges.ConfigError, match="scheduler is for engine dask only"):
        bridges.migrate("m.yaml", scheduler="tcp://h:1")


def test_a_target_that_needs_another_option_names_its_key() -> None:
    Path("m.yaml").write_text("sources: [falls.json]\ntargets: [{to: tensorboard, logdir: s3://x}]")
    with pytest.raises(bridges.ConfigError) as error:
        bridges.migrate("m.yaml")
    assert "`logdir` s3://x: event files" in str(error.value)


def test_the_parts_of_an_error_name_parameters() -> None:
    with pytest.raises(bridges.SourceError) as error:
        bridges.read("cut.json")
    assert "--" not in error.value.remedy
    assert error.value.remedy in str(error.value)
