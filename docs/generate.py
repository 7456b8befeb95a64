"""Writes the reference pages that follow from the code: command line, config file, findings.

Run as `python docs/generate.py`; with `--check` it writes nothing and fails where a page is old.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from bridges.cli.main import app
from bridges.findings import GROUPS, explanations
from bridges.migration.config.schema import config_schema

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py: change the code, then run `make reference`. -->\n"


# --- command line -----------------------------------------------------------------------------


def command_line() -> str:
    """The page of the commands, from the objects of click."""
    parts = ["# Command line", NOTE, *_command("bridge", app, None)]
    context = click.Context(app, info_name="bridge", **app.context_settings)
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        if not command.hidden:
            parts += [f"## {name}", *_command(f"bridge {name}", command, context)]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: click.Command, parent: click.Context | None) -> Iterator[str]:
    called = name.rpartition(" ")[2]
    context = click.Context(command, parent, called, **command.context_settings)
    yield f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```"
    yield from _help(command.help or "")
    for heading, rows in _options(command, context).items():
        if heading:
            yield f"**{heading}**"
        yield _table(("Option", "Meaning"), rows)


def _options(command: click.Command, context: click.Context) -> dict[str, list[tuple[str, ...]]]:
    """The options with their meanings, by their headings; all of them, also the rare ones."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            names, meaning = record
            text = " ".join(meaning.split()).replace("[", r"\[")
            found.setdefault(getattr(parameter, "heading", ""), []).append((f"`{names}`", text))
    return found


def _help(text: str) -> Iterator[str]:
    """The paragraphs of a help text; those that keep their lines are blocks, after their title."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        kept = paragraph.removeprefix("\b\n")
        title, _, block = kept.partition("\n")
        if kept != paragraph and block.startswith(" "):
            yield f"{title}\n\n```text\n{inspect.cleandoc(block)}\n```"
        else:
            yield " ".join(kept.split())


# --- config file ------------------------------------------------------------------------------

SECTIONS = (
    ("MigrationConfig", "Top level", "The keys of the file."),
    (
        "SourceSpec",
        "Keys of a source",
        "A plain text is short for its `location`. All keys below are valid, too.",
    ),
    (
        "Defaults",
        "Keys of a source and of defaults",
        "Those of `defaults` apply to all sources.",
    ),
    ("Filter", "Filter", "Selects runs, rows and metrics; all conditions must hold."),
    ("StepFilter", "Filter: steps", ""),
    ("KeyFilter", "Filter: keys", ""),
    ("TargetSpec", "Keys of a target", "A plain text is short for `to`."),
    ("EngineSpec", "Keys of the engine", "How the runs are moved."),
)


def config_file() -> str:
    """The page of the config file, from its JSON Schema."""
    schema = config_schema()
    models = {"MigrationConfig": schema, **schema["$defs"]}
    parts = [
        "# Config file",
        NOTE,
        "The keys of the files that `bridge migrate` takes. [Many runs](../guide/many-runs.md) "
        "explains how they work together; `bridge schema` prints them as JSON Schema.",
    ]
    for name, title, text in SECTIONS:
        without = models["Defaults"]["properties"] if name == "SourceSpec" else {}
        parts += [f"## {title}", text, *_model(models[name], without)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _model(model: Mapping[str, Any], without: Mapping[str, Any]) -> Iterator[str]:
    """The tables of a model: its keys, and those that only some of its kinds have."""
    kinds = [kind for kind in model.get("anyOf", ()) if "properties" in kind]
    if len(kinds) <= 1:
        properties = (kinds or [model])[0]["properties"]
        yield _keys({k: v for k, v in properties.items() if k not in without})
        return
    common = kinds[-1]["properties"]
    yield _keys(common)
    for kind in kinds[:-1]:
        yield f"### {kind['title']}"
        yield _keys({k: v for k, v in kind["properties"].items() if k not in common})


def _keys(properties: Mapping[str, Any]) -> str:
    rows = [(f"`{name}`", _text(about), _default(about)) for name, about in properties.items()]
    return _table(("Key", "Meaning", "Default"), rows)


def _text(about: Mapping[str, Any]) -> str:
    choices = about.get("enum") or [
        c for one in about.get("anyOf", ()) for c in one.get("enum", ())
    ]
    named = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
    return f"{about.get('description', '')}{named}".strip()


def _default(about: Mapping[str, Any]) -> str:
    default = about.get("default")
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    shown = str(default).lower() if isinstance(default, bool) else default
    return f"`{', '.join(shown) if isinstance(shown, list) else shown}`"


# --- findings ---------------------------------------------------------------------------------


def findings() -> str:
    """The page of all finding codes, by group."""
    parts = [
        "# Findings",
        NOTE,
        "A finding is something that you should know about a run, with a stable code. `-v` shows "
        "each with its place and count; `--json` has them as data. `bridge explain` prints the "
        "entry of a code.",
        _table(
            ("Severity", "Meaning", "Exit code"),
            [
                ("info", "worth knowing", "0"),
                ("warning", "worth a look", "0"),
                ("loss", "the target holds less than a live run would have left there", "1"),
                ("error", "the run failed", "1"),
            ],
        ),
    ]
    for group, title in GROUPS.items():
        parts.append(f"## {title}")
        for code, entry in explanations().items():
            if entry.group == group:
                severities = " or ".join(severity.value for severity in entry.severities)
                parts.append(f"### {code}")
                parts.append(f"*{severities}* · {entry.meaning}")
                parts.append(f"**Action:** {entry.action}")
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


PAGES = {"cli.md": command_line, "config.md": config_file, "findings.md": findings}


def old_pages() -> list[str]:
    """The names of the pages that are not what the code says."""
    return [name for name, text in PAGES.items() if _read(REFERENCE / name) != text()]


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def main(arguments: list[str]) -> int:
    """Write or check the pages. Returns the exit code."""
    old = old_pages()
    if "--check" in arguments:
        for name in old:
            print(f"docs/reference/{name} is old: run `make reference`")
        return 1 if old else 0
    for name in old:
        (REFERENCE / name).write_text(PAGES[name](), "utf-8")
        print(f"wrote docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
