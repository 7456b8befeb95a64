"""The tables of a chart page: runs, values logged once, params and findings."""

from __future__ import annotations

from collections.abc import Sequence

from bridges.migration.reports.html_parts import CONTROLS, escaped
from bridges.stream.finding import Finding
from bridges.stream.model import Clock, Run
from bridges.stream.redact import redact_message, shown_finding
from bridges.views.charts.lines import Line
from bridges.views.listing import Listing
from bridges.views.params import params_of

FEW = 4  # params of a run that are shown without a click
METRICS = 3  # main metrics of the table of runs


def runs_table(listing: Listing) -> str:
    """A row for each run: its facts, main metrics and differing params."""
    metrics = [name for key in listing.metrics()[:METRICS] for name in (key, f"{key}:best")]
    columns = ["name", "rows", "steps", *metrics]
    params = listing.telling()
    heads = [*map(_title, columns), *(["params that differ"] if params else [])]
    rows = []
    for run in listing.order():
        name, *values = (listing.value(run, column) for column in columns)
        cells = [f'<th scope="row">{_name(str(name))}</th>', *map(_number, values)]
        if params:
            pairs = listing.params(run, params).items()
            cells.append(_params([f"{key}={_short(value)}" for key, value in pairs]))
        rows.append(cells)
    return _for_script(_table("table", heads, rows))


def once_table(names: Sequence[str], lines: Sequence[Sequence[Line]], keys: Sequence[str]) -> str:
    """The values of metrics that each run has logged once."""
    if not keys:
        return ""
    rows = []
    for name, mine in zip(names, lines, strict=True):
        found = {line.key: line.value[0].item() for line in mine}
        cells = [f'<th scope="row">{_name(name)}</th>']
        rows.append([*cells, *(_number(found.get(key)) for key in keys)])
    table = _for_script(_table("once", ["name", *map(visible, keys)], rows))
    return f'<details><summary>Logged once</summary><div class="scroll">{table}</div></details>'


def details_of(run: Run, findings: Sequence[Finding], clock: Clock) -> str:
    """The clock, params and findings of the only run."""
    params = [[_cell(key), _cell(_short(value))] for key, value in params_of(run).items()]
    found = [
        [_cell(str(entry[name])) for name in ("severity", "code", "where", "message")]
        for entry in map(shown_finding, findings)
    ]
    source, times = _name(redact_message(run.source)), escaped(clock.name)
    parts = [f'<p class="dim">Source: {source}. Times: {times}.</p>']
    for title, heads, rows in (
        ("Params", ["param", "value"], params),
        ("Findings", ["severity", "code", "where", "message"], found),
    ):
        if rows:
            table = _table(title.lower(), heads, rows)
            parts.append(
                f"<details><summary>{title} ({len(rows):,})</summary>"
                f'<div class="scroll">{table}</div></details>'
            )
    return "".join(parts)


def _for_script(table: str) -> str:
    """A table of runs, whose rows the script adds; complete without scripts."""
    return f"<noscript>{table}</noscript>"


def _table(name: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells of the first row say which titles stand above numbers."""
    kinds = [' class="n"' * cell.startswith('<td class="n"') for cell in rows[0]] if rows else []
    pairs = zip(kinds, heads, strict=True)
    titles = "".join(f'<th scope="col"{kind}>{_name(head)}</th>' for kind, head in pairs)
    body = "".join(f"<tr>{''.join(cells)}</tr>\n" for cells in rows)
    return f'<table id="{name}"><thead><tr>{titles}</tr></thead>\n<tbody>\n{body}</tbody></table>'


def _params(params: Sequence[str]) -> str:
    """A cell of params, the later ones on a click."""
    first, rest = _name(" ".join(params[:FEW])), params[FEW:]
    if not rest:
        return f'<td class="wide">{first}</td>'
    summary = f"<summary>{first} and {len(rest):,} more</summary>"
    return f'<td class="wide"><details>{summary}{_name(" ".join(rest))}</details></td>'


def _title(column: str) -> str:
    key, _, value = column.rpartition(":")
    return f"{value} {key}" if key else column


def _cell(text: str) -> str:
    return f'<td class="wide">{_name(text)}</td>'


def _number(value: object) -> str:
    shown = "" if value is None else str(value)
    if isinstance(value, (int, float)):
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
    return f'<td class="n">{shown}</td>'


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _name(text: str) -> str:
    return f"<bdi>{escaped(text)}</bdi>"


def visible(text: str) -> str:
    """The text with its control characters replaced, for a script that shows it."""
    return redact_message(text).translate(CONTROLS)
