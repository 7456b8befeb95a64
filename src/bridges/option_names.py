"""The names of options in messages: `--x-axis epoch` is `x_axis='epoch'` in Python.

Messages are written with the options of the command line. The Python functions replace these by
their parameters, and a migration by the keys of its config.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from bridges.errors import BridgeError, TreeError
from bridges.exporters import built_in
from bridges.option import Field, described
from bridges.pipeline.options import ExportOptions, LayoutOptions, Pace
from bridges.report import RunReport
from bridges.sources.options import ReadChoices
from bridges.stream.model import Run

MODELS = (
    *(ReadChoices, LayoutOptions, ExportOptions, Pace),
    *built_in.MODELS.values(),
)
FIELDS: dict[str, Field] = {field.flag: field for model in MODELS for field in described(model)}
_OPTION = re.compile(
    r"(?<![\w/-])(?P<flag>--[a-z]+(?:-[a-z]+)*)(?: (?P<value>[A-Z]{3,}|[a-z_]+)\b)?"
)
R = TypeVar("R", Run, RunReport)


@dataclass(frozen=True)
class Notation:
    """How messages write an option: `alone`, and `assigned` to a value.

    A flag is assigned `true`; `texts` formats a value from the choices of an option. `others` are
    names by flag, for options without a field or with another name.
    """

    alone: str
    assigned: str
    true: str
    texts: Callable[[str], str]
    others: Mapping[str, str]

    def message(self, text: str) -> str:
        """The message with its options in this notation."""
        return _OPTION.sub(self._written, text) if "--" in text else text

    def findings(self, subject: R) -> R:
        """The run or report with the messages of its findings in this notation."""
        if not any("--" in finding.message for finding in subject.findings):
            return subject
        found = (replace(each, message=self.message(each.message)) for each in subject.findings)
        return replace(subject, findings=tuple(found))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the errors of the block with their messages in this notation."""
        try:
            yield
        except BridgeError as error:
            for each in (error, *(error.errors if isinstance(error, TreeError) else ())):
                self._rename(each)
            raise

    def _rename(self, error: BridgeError) -> None:
        error.args = (self.message(str(error)),)
        for name, value in vars(error).items():
            if isinstance(value, str) and name != "source":
                setattr(error, name, self.message(value))

    def _written(self, option: re.Match[str]) -> str:
        flag, value = option["flag"], option["value"] or ""
        field = FIELDS.get(flag)
        name = self.others.get(flag) or (field.name if field else "")
        after = f" {value}" if value else ""
        if not name:
            return option[0]
        if field and field.kind is bool:
            return self.assigned.format(name, self.true) + after
        if value.isupper():
            return self.assigned.format(name, value)
        if field and value in (*field.choices, *field.about.examples):
            return self.assigned.format(name, self.texts(value))
        return self.alone.format(name) + after


PARAMETERS = Notation(
    "{}",
    "{}={}",
    "True",
    repr,
    {
        "--recheck": "recheck=True",
        **{f"--{name}": name for name in ("follow", "engine", "workers", "scheduler", "patience")},
    },
)
CONFIG_KEYS = Notation("`{}`", "`{}: {}`", "true", str, {"--run-name": "name"})
