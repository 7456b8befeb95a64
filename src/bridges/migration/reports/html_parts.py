"""The parts of the HTML report around its rows: verdict, filters, totals and explanations.

Optional closing tags are omitted to keep large pages small.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from bridges.findings import explanations
from bridges.migration.reports.run_totals import RunTotals
from bridges.report import STATUSES, Totals

MAX_NAME_CHARS = 200  # longer names get a scrolling box
# control characters are replaced by their pictures, as HTML forbids most of them
CONTROLS = {code: 0x2400 + code for code in range(32)} | {127: 0x2421}
# control characters without a picture, and characters for the text direction
CONTROLS |= dict.fromkeys([*range(0x80, 0xA0), 0x61C, 0x200E, 0x200F], 0xFFFD)
CONTROLS |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
CONTROLS |= dict.fromkeys([0x2028, 0x2029, 0xE0001], 0xFFFD)  # line ends, a language tag


def escaped(text: str) -> str:
    """The text escaped for HTML elements and attributes."""
    return html.escape(text.translate(CONTROLS))


def isolated(text: str) -> str:
    """A name, isolated from the text direction of the surrounding text."""
    box = ' class="long" tabindex="0"' if len(text) > MAX_NAME_CHARS else ""
    return f"<bdi{box}>{escaped(text)}</bdi>"


def summary(totals: Totals, runs: RunTotals, now: str, has_ended: bool) -> str:
    """The lines above the runs: the verdict and the numbers of runs by status."""
    return "\n".join(_summary(totals, runs, now, has_ended))


def _summary(totals: Totals, runs: RunTotals, now: str, has_ended: bool) -> Iterator[str]:
    sums = totals.totals
    if not has_ended:
        yield '<p class="error">This migration was interrupted: only finished runs are listed.</p>'
    kind, words = ("error", "failed or lost data") if runs.failed else ("good", "failed")
    targets = len(totals.targets)
    into = f" × {targets} targets" if targets > 1 else ""
    yield (
        f'<p class="verdict"><span class="{kind}">{runs.failed:,} of {runs.runs:,} runs '
        f"{words}</span> (exit code {totals.exit_code}). {sums['points']:,} points, of which "
        f"{sums['new_points']:,} are new.</p>"
    )
    counts = ", ".join(f"{sums[status]:,} {status}" for status in STATUSES if sums[status])
    more = ['<a href="#by-target">Totals by target</a>']
    more += ['<a href="#explained">findings explained</a>'] if runs.codes else []
    yield (
        f'<p class="dim">{runs.runs:,} runs{into}: {counts}. Written on {now}. '
        f"{', '.join(more)}.</p>"
    )


def options(targets: Iterable[str]) -> str:
    """The options of the filter by target: its numbers, with the names."""
    return "".join(
        f'<option value="{number}">{escaped(target)}' for number, target in enumerate(targets)
    )


def chips(runs: RunTotals) -> str:
    """A button for each finding code, which filters the runs."""
    return "".join(
        f'<button type="button" aria-pressed="false" class="{totals.severity.value}">'
        f"<bdi>{escaped(code)}</bdi> <small>{totals.runs:,}</small></button>\n"
        for code, totals in runs.ordered()
    )


def tables(totals: Totals, runs: RunTotals) -> str:
    """The tables below the runs: totals by target, and the explained findings."""
    names = ("runs", *STATUSES, "points", "new_points")
    rows = [*totals.targets.items(), ("all", totals.totals)]
    targets = _table(
        "by-target",
        "Targets",
        ["target", *(name.replace("_", " ") for name in names)],
        ([_cell(target), *(_count(sums[name]) for name in names)] for target, sums in rows),
        texts=1,
    )
    return f"{targets}\n{_explained(runs)}" if runs.codes else targets


def _explained(runs: RunTotals) -> str:
    rows = (
        [
            f'<td class="{found.severity.value}">{found.severity.value}',
            _cell(code),
            f"<td>{_meaning(code)}",
            _count(found.runs),
            _count(found.count),
        ]
        for code, found in runs.ordered()
    )
    titles = ["severity", "code", "meaning", "runs", "times"]
    return _table("explained", "Findings", titles, rows, texts=3)


def _meaning(code: str) -> str:
    """The meaning and remedy of a code; empty for a code of a plugin."""
    entry = explanations().get(code)
    return f"{_prose(entry.meaning)} <b>To do:</b> {_prose(entry.action)}" if entry else ""


def _prose(text: str) -> str:
    return re.sub("`(.*?)`", r"<code>\1</code>", escaped(text))


def _cell(text: str) -> str:
    return f'<th scope="row">{isolated(text)}'


def _count(number: int) -> str:
    return f'<td class="n">{number:,}'


def _table(
    place: str, caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]], texts: int
) -> str:
    """A small table with an id; the columns after the first `texts` contain numbers."""
    heads = [f'<th scope="col">{title}' for title in titles[:texts]]
    heads += [f'<th scope="col" class="n">{title}' for title in titles[texts:]]
    body = "".join(f"<tr>{''.join(cells)}\n" for cells in rows)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{caption}">'
        f'<table id="{place}"><caption>{caption}</caption>\n'
        f"<thead><tr>{''.join(heads)}\n<tbody>\n{body}</table></div>"
    )
