"""The first version of a migration config: the runs found, as a commented YAML file."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from bridges.errors import ConfigError
from bridges.migration.config.templates import render
from bridges.sources.trainer.locations import GLOB
from bridges.stream.model import Run
from bridges.stream.redact import redact_message, redact_text
from bridges.views.params import ABSENT, ParamTable, params_of

SHOWN = 5  # names of a group
FEW_ROWS = 2  # a run with fewer rows is hardly worth an export
TARGETS = {  # the options in a draft
    "tensorboard": ("logdir: runs",),
    "mlflow": ("tracking_uri: sqlite:///mlflow.db", "experiment: {experiment}"),
    "wandb": ("project: {experiment}", "mode: offline  # files for `wandb sync`"),
    "trackio": ("project: {experiment}",),
    "parquet": ("out: tables",),
    "csv": ("out: tables-csv",),
}
UNIQUE = ("{parent|}/{name}", "{name}-{trial|}")  # templates for equal names

Place = tuple[str | None, str]  # group and name of a run


@dataclass
class Found:
    """The runs of one location, without their rows."""

    location: str
    groups: list[str | None] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    others: dict[str, list[str]] = field(default_factory=dict)  # names by the templates of UNIQUE
    params: ParamTable = field(default_factory=ParamTable)
    has_experiments: bool = False  # a run is from a store with experiments

    def add(self, run: Run) -> None:
        """Add a run."""
        self.groups.append(run.group)
        self.names.append(run.name)
        self.rows.append(len(run.stream))
        for template in UNIQUE:
            self.others.setdefault(template, []).append(render(template, run))
        self.params.add(params_of(run))
        self.has_experiments = self.has_experiments or run.record is not None

    @property
    def places(self) -> set[Place]:
        """The groups and names of all runs."""
        return {*zip(self.groups, self.names, strict=True)}

    def clashes(self, names: Sequence[str], taken: Collection[Place] = ()) -> list[str]:
        """The names of several runs of one group, some of which may be `taken` elsewhere."""
        counts = Counter(zip(self.groups, names, strict=True))
        return [place[1] for place, count in counts.items() if count > 1 or place in taken]

    def template(self, taken: Collection[Place] = ()) -> str:
        """A template whose names do not clash; empty if the names do not, or none is known."""
        if not self.clashes(self.names, taken):
            return ""
        for template in (*UNIQUE, *self._by_params()):
            names = self.others.get(template) or self._with_param(template)
            if not self.clashes(names, taken):
                return template
        return ""

    def _by_params(self) -> Iterator[str]:
        yield from (f"{{name}}-{{params.{key}|}}" for key in self.params.telling())

    def _with_param(self, template: str) -> list[str]:
        key = template.partition("{params.")[2].removesuffix("|}")
        values = (self.params.get(run, key) for run in range(len(self.names)))
        pairs = zip(self.names, values, strict=True)
        return [f"{name}-{'' if value is ABSENT else value}" for name, value in pairs]


def draft(found: Sequence[Found], targets: Sequence[str], path: str) -> str:
    """The text of a config for these locations, to be written to `path`.

    Targets other than those given are commented out. Raises ConfigError for a location with a
    credential, which a config must not hold.
    """
    runs = sum(len(one.names) for one in found)
    named = "migration.yaml" if path == "-" else path
    command = f"bridge migrate {_line(shlex.quote(named))}"
    lines = [
        f"# Written by `bridge init` for {runs:,} run{'s' * (runs != 1)}.",
        f"# See what it would do:  {command} --dry-run",
        f"# Carry it out:          {command}",
        "",
        *_defaults(found),
        "sources:",
        *(line for one in found for line in _source(one, found, os.path.dirname(path))),
        "",
        "targets:",
        *(line for name in TARGETS for line in _target(name, name in targets, found)),
        *(f"  - to: {_text(name)}" for name in targets if name not in TARGETS),
        "",
        "# engine:",
        "#   workers: 4  # processes",
    ]
    return "\n".join(lines) + "\n"


def _defaults(found: Sequence[Found]) -> Iterator[str]:
    """The fields of templates, and the defaults as comments."""
    differing = dict.fromkeys(key for one in found for key in one.params.telling())
    yield "# Fields for names and tags: name, parent, group, trial, status, params.KEY."
    if differing:
        yield f"# Params that differ: {', '.join(map(_line, [*differing][:SHOWN]))}."
    yield "# defaults:"
    yield '#   name: "{name}"'
    yield '#   tags: {state: "{status}"}'
    few = sum(rows < FEW_ROWS for one in found for rows in one.rows)
    if few:
        yield f"#   filter: {{min_rows: {FEW_ROWS}}}  # leaves out {few:,} with fewer rows"
    yield ""


def _source(one: Found, found: Sequence[Found], folder: str) -> Iterator[str]:
    """A source, with its groups and clashing names as comments."""
    counts = Counter(one.groups)
    for group, count in counts.most_common(SHOWN):
        names = [name for name, its in zip(one.names, one.groups, strict=True) if its == group]
        title = f"group {_line(group)}, " if group else ""
        more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
        shown = ", ".join(map(_line, names[:SHOWN]))
        yield f"  # {title}{count:,} run{'s' * (count != 1)}: {shown}{more}"
    if len(counts) > SHOWN:
        yield f"  # and {len(counts) - SHOWN:,} more groups"
    yield f"  - location: {_text(_relative(one.location, folder))}"
    taken = {place for other in found if other is not one for place in other.places}
    clashes, template = one.clashes(one.names, taken), one.template(taken)
    if clashes:
        shown = ", ".join(map(_line, clashes[:SHOWN]))
        yield f"    # several runs are called {shown}"
    if template:
        yield f"    name: {_text(template)}"
    elif clashes:
        yield '    # name: "{parent}/{name}"  # each stays a run of its own, under an equal name'


def _target(name: str, is_used: bool, found: Sequence[Found]) -> Iterator[str]:
    """A target with its main options, commented out unless it is used.

    One experiment for all runs would replace those of a store.
    """
    place = found[0].location
    place = os.path.basename(place.rstrip("/\\") if "://" in place else os.path.abspath(place))
    experiment = _text(place if place and not GLOB.search(place) else "bridges")
    is_own = any(one.has_experiments for one in found)
    options = [one for one in TARGETS[name] if not (is_own and "{experiment}" in one)]
    lines = [f"  - to: {name}", *(f"    {option}" for option in options)]
    for line in lines:
        filled = line.replace("{experiment}", experiment)
        yield filled if is_used else f"  # {filled[2:]}"


def _relative(location: str, folder: str) -> str:
    """A location as the config in `folder` names it; URLs and absolute paths stay."""
    if redact_text(location) != location:
        raise ConfigError(
            f"{redact_message(location)}: found a credential, which a config must not hold; "
            "expected it in the environment of the program that needs it"
        )
    if "://" in location or os.path.isabs(location):
        return location
    return os.path.relpath(location, folder or ".")


def _text(text: str) -> str:
    """A YAML text in double quotes, in which `${` stands for itself."""
    return json.dumps(text.replace("${", "$${"))


def _line(text: str) -> str:
    """A text within a comment, on one line."""
    return "".join(char if char.isprintable() else "\ufffd" for char in redact_text(text))
