"""The parts of the HTML report: totals, table rows, sparklines and findings.

Optional closing tags are omitted to keep large pages small.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from urllib.parse import urlsplit

from bridges.report import STATUSES, RunReport, Totals
from bridges.stream.finding import Finding, Severity

LINKED = ("http", "https", "file")
MAX_NAME_CHARS = 200  # longer names get a scrolling box
HEIGHT = 20  # pixels of a sparkline; a value is two pixels wide
# control characters are replaced by their pictures, as HTML forbids most of them
CONTROLS = {code: 0x2400 + code for code in range(32)} | {127: 0x2421}
# control characters without a picture, and characters for the text direction
CONTROLS |= dict.fromkeys([*range(0x80, 0xA0), 0x61C, 0x200E, 0x200F], 0xFFFD)
CONTROLS |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
CONTROLS |= dict.fromkeys([0x2028, 0x2029, 0xE0001], 0xFFFD)  # line ends, a language tag
VERIFIED = {True: "yes", False: "NO", None: ""}


def escaped(text: str) -> str:
    """The text escaped for HTML elements and attributes."""
    return html.escape(text.translate(CONTROLS))


def row(report: RunReport) -> str:
    """The table row of a run."""
    numbers = (report.rows, report.points, report.new_points)
    status = escaped(report.status)
    plan = f": {escaped(report.plan)}" if report.plan else ""
    cells = [
        f'<tr class="{status}{" bad" * report.failed}"><td>{status}{plan}',
        f'<th scope="row">{_name(report.run)}<br><small>{_name(report.source)}</small>',
        f"<td>{_name(report.target)}",
        *(f'<td class="n">{number:,}' for number in numbers),
        f'<td class="n">{report.seconds:,.2f}',
        f"<td>{VERIFIED[report.verified]}",
        f"<td>{_sparkline(report.trend)}",
        _findings(report.findings),
        f"<td>{_location(report.location or '')}\n",
    ]
    return "".join(cells)


def _name(text: str) -> str:
    """A name, isolated from the text direction of the surrounding text."""
    box = ' class="long" tabindex="0"' if len(text) > MAX_NAME_CHARS else ""
    return f"<bdi{box}>{escaped(text)}</bdi>"


def _location(location: str) -> str:
    url = _url(location)
    shown = _name(location)
    return f'<a href="{escaped(url)}" rel="noreferrer">{shown}</a>' if url else shown


def _url(location: str) -> str | None:
    """The link of a location: a URL or a local file; None otherwise."""
    try:
        if urlsplit(location).scheme in LINKED:
            return location
        path = PurePath(location)
        return path.as_uri() if path.is_absolute() else None
    except ValueError:  # no URL at all, or a lone surrogate
        return None


def _sparkline(trend: Sequence[float]) -> str:
    """The trend as an SVG line, titled with its first and last value."""
    if not trend:
        return ""
    low, high = min(trend) / 2, max(trend) / 2  # halves: their difference is always finite
    span = high - low or 1.0
    heights = [round((high - value / 2) / span * HEIGHT) if high > low else 10 for value in trend]
    points = " ".join(f"{2 * index} {height}" for index, height in enumerate(heights))
    ends = f"from {trend[0]:.4g} to {trend[-1]:.4g}"
    line = f"M{points}" if len(trend) > 1 else f"M0 {heights[0]}h94"
    return f'<svg viewBox="0 0 96 20" role="img"><title>{ends}</title><path d="{line}"/></svg>'


def _findings(findings: Sequence[Finding]) -> str:
    """The cell of the findings: counts by severity, with the messages on a click."""
    if not findings:
        return '<td data-key="0">'
    gravest = [*reversed(Severity)]
    counts = Counter(finding.severity for finding in findings)
    key = sum(counts[severity] * 1000**place for place, severity in enumerate(Severity))
    head = ", ".join(f"{counts[one]:,} {one.value}" for one in gravest if counts[one])
    worst = next(severity for severity in gravest if counts[severity])
    items = "".join(map(_finding, sorted(findings, key=lambda one: gravest.index(one.severity))))
    return (
        f'<td data-key="{key}"><details><summary class="{worst.value}">{head}</summary>'
        f"<ul>{items}</ul></details>"
    )


def _finding(finding: Finding) -> str:
    times = f" ({finding.count:,}×)" if finding.count > 1 else ""
    return (
        f'<li><span class="{finding.severity.value}">{finding.severity.value}</span> '
        f"{_name(finding.code)}{times}, {_name(finding.where)}: {_name(finding.message)}"
    )


def summary(totals: Totals, now: str, has_ended: bool) -> str:
    """The section above the table: the verdict, the totals by target, and the findings."""
    return "\n".join([*_verdict(totals, now, has_ended), *_totals(totals)])


def _verdict(totals: Totals, now: str, has_ended: bool) -> Iterator[str]:
    sums = totals.totals
    if not has_ended:
        yield '<p class="error">This migration was interrupted: only finished runs are listed.</p>'
    kind, words = ("error", "failed or lost data") if totals.failed else ("good", "failed")
    yield (
        f'<p class="verdict"><span class="{kind}">{totals.failed:,} of {sums["runs"]:,} runs '
        f"{words}</span> (exit code {totals.exit_code}). {sums['points']:,} points, of which "
        f"{sums['new_points']:,} are new.</p>"
    )
    yield f'<p class="dim">Written on {now}.</p>'


def _totals(totals: Totals) -> Iterator[str]:
    names = ("runs", *STATUSES, "points", "new_points")
    rows = [*totals.targets.items(), ("all", totals.totals)]
    yield '<div class="totals">'
    yield _table(
        "Targets",
        ["target", *(name.replace("_", " ") for name in names)],
        ([_cell(target), *(_count(sums[name]) for name in names)] for target, sums in rows),
        texts=1,
    )
    if totals.findings:
        yield _table(
            "Findings",
            ["severity", "code", "runs", "times"],
            (
                [
                    f'<td class="{found.severity.value}">{found.severity.value}',
                    _cell(found.code),
                    _count(found.runs),
                    _count(found.count),
                ]
                for found in totals.findings
            ),
            texts=2,
        )
    yield "</div>"


def _cell(text: str) -> str:
    return f'<th scope="row">{_name(text)}'


def _count(number: int) -> str:
    return f'<td class="n">{number:,}'


def _table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    """A small table; the columns after the first `texts` contain numbers."""
    heads = [f'<th scope="col">{title}' for title in titles[:texts]]
    heads += [f'<th scope="col" class="n">{title}' for title in titles[texts:]]
    body = "".join(f"<tr>{''.join(cells)}\n" for cells in rows)
    return (
        f"<table><caption>{caption}</caption>\n<thead><tr>{''.join(heads)}\n<tbody>\n{body}</table>"
    )
