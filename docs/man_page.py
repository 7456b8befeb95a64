"""The manual page bridge(1), in the macros of man(7)."""

from __future__ import annotations

from collections.abc import Iterator

from bridges import __version__
from docs.commands import Option, Page, Paragraph, pages

NAME = "move training histories into TensorBoard, MLflow and Weights & Biases"
SECTIONS = {"Examples:": "EXAMPLES", "Exit codes:": "EXIT STATUS"}  # blocks of the first help
NOTE = r".\" Written by docs/generate.py: change the code, then run `make reference`."
ALIAS = ".so man1/bridge.1\n"  # the page of `bridges`, the other name of the command


def man_page() -> str:
    """The page of all commands."""
    first, *commands = pages()
    lines = [
        NOTE,
        f'.TH BRIDGE 1 "" "bridge {__version__}" "User Commands"',
        *(".SH NAME", f"bridge, bridges \\- {NAME}"),
        *(".SH SYNOPSIS", _bold(first.usage)),
        *(".SH DESCRIPTION", *_help(first)),
        *(".SH OPTIONS", *_options(first.options)),
        ".SH COMMANDS",
        *(line for command in commands for line in _command(command)),
        *(line for each in first.paragraphs for line in _section(each)),
    ]
    return "\n".join(lines) + "\n"


def _command(page: Page) -> Iterator[str]:
    yield f".SS {_safe(page.name)}"
    yield _bold(page.usage)
    yield from _help(page)
    yield from _options(page.options)


def _help(page: Page) -> Iterator[str]:
    for paragraph in page.paragraphs:
        if paragraph.text not in SECTIONS or page.name != "bridge":
            yield from _paragraph(paragraph)


def _paragraph(paragraph: Paragraph) -> list[str]:
    return [".PP", _text(paragraph.text), *(_block(paragraph.block) if paragraph.block else ())]


def _section(paragraph: Paragraph) -> Iterator[str]:
    """A block of the first help that manual pages have as a section."""
    if title := SECTIONS.get(paragraph.text):
        yield from (f".SH {title}", *_block(paragraph.block))


def _block(text: str) -> list[str]:
    return [".RS 4", ".nf", *map(_text, text.splitlines()), ".fi", ".RE"]


def _options(options: tuple[Option, ...]) -> Iterator[str]:
    heading = ""
    for option in options:
        if option.heading != heading:
            heading = option.heading
            yield from (".PP", _text(f"{heading}:"))
        yield from (".TP", _bold(option.names), _text(option.help))


def _bold(text: str) -> str:
    return rf"\fB{_safe(text)}\fR"


def _text(line: str) -> str:
    """A line that is no request, whatever it begins with."""
    return (r"\&" if line.startswith((".", "'")) else "") + _safe(line)


def _safe(text: str) -> str:
    r"""The text with `\` and `-` as themselves: `\-` can be copied as an option."""
    return text.replace("\\", r"\e").replace("-", r"\-")
