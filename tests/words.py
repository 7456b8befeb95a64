"""Measures the prose of the docstrings and comments of `src`, of README.md and of docs, and fails
if one of its habits grows: run as `python -m tests.words`, with `-v` for the table.

LIMITS are the present figures. Lower them after each rewrite; never raise them.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
HABITS = {
    "what": r"what",
    "that": r"that",
    "tell, say": r"tells?|told|says?",
    "there": r"there",
    "whole": r"whole",
    "of which": r"of (?:which|whom|whose)",
}
P90 = "p90 words a sentence"
MEASURES = (*HABITS, P90)
ANCHORS = {  # uses per 1,000 words of docstrings and comments; README of httpx
    "httpx": {"what": 0.2, "that": 8.1, "tell, say": 0.0, "there": 0.5, "whole": 0.0, P90: 21},
    "singer-sdk": {"what": 0.0, "that": 2.8, "tell, say": 0.0, "there": 0.2, "whole": 0.0},
    "dlt": {"what": 0.2, "that": 7.5, "tell, say": 0.2, "there": 0.7, "whole": 0.2},
    "sqlite-utils": {"what": 0.0, "that": 8.2, "tell, say": 0.1, "there": 0.7, "whole": 0.3},
}
LIMITS: dict[str, dict[str, float]] = {
    "src": {
        "what": 0.2,
        "that": 8.2,
        "tell, say": 0.2,
        "there": 0.4,
        "whole": 0.3,
        "of which": 0.1,
        P90: 17,
    },
    "README.md": {
        "what": 0.2,
        "that": 8.1,
        "tell, say": 0.1,
        "there": 0.5,
        "whole": 0.3,
        "of which": 0.1,
        P90: 22,
    },
    "docs": {
        "what": 3.0,
        "that": 12.5,
        "tell, say": 0.5,
        "there": 2.2,
        "whole": 1.3,
        "of which": 0.2,
        P90: 21,
    },
}
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_CODE = re.compile(r"``?[^`]+``?")
_END = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z`\"'(*])|\n\s*\n")


def source_prose(text: str) -> Iterator[str]:
    """The docstrings of a module, then its comments, those of consecutive lines joined."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    block: list[str] = []
    last = 0
    for line, comment in _comments(text):
        if line != last + 1:
            yield " ".join(block)
            block = []
        block.append(comment)
        last = line
    yield " ".join(block)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def page_prose(text: str) -> Iterator[str]:
    """The paragraphs and list items of a Markdown page; code, tables and headings are left out."""
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^\s*(?:#|\|).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    yield re.sub(r"^\s*(?:[-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)


def measured(blocks: Iterator[str]) -> dict[str, float]:
    """Uses of each habit per 1,000 words, and the 90th percentile of words a sentence."""
    texts = [_CODE.sub("code", block) for block in blocks]
    prose = "\n\n".join(texts)
    words = max(1, len(_WORD.findall(prose)))
    found = {
        name: 1000 * len(re.findall(rf"\b(?:{pattern})\b", prose, re.IGNORECASE)) / words
        for name, pattern in HABITS.items()
    }
    sentences = (len(_WORD.findall(sentence)) for sentence in _END.split(prose))
    lengths = sorted(length for length in sentences if length)
    return {**found, P90: lengths[len(lengths) * 9 // 10] if lengths else 0}


def figures(root: Path) -> dict[str, dict[str, float]]:
    """The figures of the source tree, the README and the pages of the documentation."""
    files = {
        "src": sorted((root / "src").rglob("*.py")),
        "README.md": [root / "README.md"],
        "docs": sorted((root / "docs").rglob("*.md")),
    }
    prose = {"src": source_prose}
    return {
        name: measured(
            block
            for path in paths
            for block in prose.get(name, page_prose)(path.read_text("utf-8"))
        )
        for name, paths in files.items()
    }


def excesses(found: dict[str, dict[str, float]]) -> Iterator[str]:
    """One line for each figure above its limit."""
    for name, shares in found.items():
        for measure, limit in LIMITS[name].items():
            if round(shares[measure], 1) > limit:
                yield (
                    f"{name}: {shares[measure]:.1f} {_unit(measure)}; expected no more than "
                    f"{limit:g}. Rephrase what you added: name the thing, then say what it does."
                )


def _unit(measure: str) -> str:
    return measure if measure == P90 else f"uses of {measure!r} per 1,000 words"


def table(found: dict[str, dict[str, float]]) -> str:
    """The figures beside their limits and those of the anchors."""
    columns: dict[str, Callable[[str], float | None]] = {}
    for name, shares in found.items():
        columns[name] = shares.get
        columns[f"limit {name}"] = LIMITS[name].get
    columns |= {name: shares.get for name, shares in ANCHORS.items()}
    lines = [" " * 20 + "".join(f"  {name}" for name in columns)]
    for measure in MEASURES:
        cells = ((name, column(measure)) for name, column in columns.items())
        shown = (
            ("" if cell is None else f"{cell:.1f}").rjust(len(name) + 2) for name, cell in cells
        )
        lines.append(f"{measure:<20}" + "".join(shown))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Check the limits. Returns the exit code."""
    found = figures(ROOT)
    if "-v" in arguments:
        print(table(found))
    problems = list(excesses(found))
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
