"""Writes the reference pages that follow from the code: command line, config file, findings, man.

Run as `python -m docs.generate`; with `--check` it writes nothing and fails where a page is old.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridges.findings import GROUPS, explanations
from bridges.migration.config.schema import config_schema
from docs.commands import Page, Paragraph, pages
from docs.man_page import ALIAS, man_page

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py: change the code, then run `make reference`. -->\n"


# --- command line -----------------------------------------------------------------------------


def command_line() -> str:
    """The page of the commands, from the objects of click."""
    parts = ["# Command line", NOTE]
    for page in pages():
        parts += [] if page.name == "bridge" else [f"## {page.name.removeprefix('bridge ')}"]
        parts += [f"```text\n{page.usage}\n```", *map(_paragraph, page.paragraphs)]
        for heading, rows in _rows(page).items():
            parts += [f"**{heading}**"] if heading else []
            parts.append(_table(("Option", "Meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _paragraph(paragraph: Paragraph) -> str:
    block = f"\n\n```text\n{paragraph.block}\n```" if paragraph.block else ""
    return paragraph.text + block


def _rows(page: Page) -> dict[str, list[tuple[str, ...]]]:
    """The options with their meanings, by their headings."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for option in page.options:
        row = f"`{option.names}`", option.help.replace("[", r"\[")
        found.setdefault(option.heading, []).append(row)
    return found


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
    (
        "TableFormat",
        "Keys of a format of tables",
        "[Tables](../sources/tables.md#your-own-tables) shows its use.",
    ),
    ("Timestamp", "Format of tables: timestamp", "Times as instants."),
    ("Elapsed", "Format of tables: elapsed", "A plain text, or a list, is short for `columns`."),
    ("Sign", "Format of tables: surely", "All conditions of a sign must hold."),
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
    text = ", ".join(shown) if isinstance(shown, list) else str(shown)
    return f"`{text.replace(chr(9), 'TAB')}`"


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


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": command_line,
    "config.md": config_file,
    "findings.md": findings,
    "bridge.1": man_page,
    "bridges.1": lambda: ALIAS,
}


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
