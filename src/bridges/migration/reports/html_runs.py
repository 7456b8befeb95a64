"""The rows of the HTML report: a run, its sparkline, its targets and its findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from urllib.parse import urlsplit

from bridges.migration.reports.html_parts import escaped, isolated
from bridges.report import RunReport
from bridges.stream.finding import Finding, Severity
from bridges.stream.redact import redact_message

LINKED = ("http", "https", "file")
HEIGHT = 20  # pixels of a sparkline; a value is two pixels wide
VERIFIED = {True: "verified", False: "NOT verified", None: ""}


def row(reports: Sequence[RunReport], targets: Mapping[str, int], codes: Mapping[str, int]) -> str:
    """The table row of a run, given its reports: one line, as the page shows rows line by line.

    `targets` and `codes` number the targets and finding codes for the filters of the page.
    """
    found = merged(reports)
    first = max(reports, key=lambda report: report.rows)
    states = " ".join(f"{targets[one.target]}-{one.status}{'-bad' * one.failed}" for one in reports)
    kinds = " ".join(str(codes[code]) for code in dict.fromkeys(one.code for one in found))
    lines = "".join(map(_target, reports))
    source = isolated(redact_message(first.source))
    cells = [
        f'<tr data-states="{escaped(states)}" data-codes="{kinds}" data-keys="{_keys(reports)}">',
        f'<th scope="row">{isolated(first.run)}<br><small>{source}</small>',
        f"<td>{_trend(reports)}",
        f'<td class="n">{first.rows:,}',
        f"<td><ul>{lines}</ul>",
        f"<td>{_findings(found, len(reports))}\n",
    ]
    return "".join(cells)


def merged(reports: Sequence[RunReport]) -> dict[Finding, list[str]]:
    """The findings of a run, the gravest first, each with its targets."""
    found: dict[Finding, list[str]] = {}
    for report in reports:
        for finding in dict.fromkeys(report.findings):
            found.setdefault(finding, []).append(report.target)
    order = [*reversed(Severity)]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0].severity)))


def _keys(reports: Sequence[RunReport]) -> str:
    """The numbers that the page sorts by, in the order of its select box `sort`."""
    last = next((one.trend[-1] for one in reports if one.trend), "")
    ranks = [*Severity]
    weights = [1000 ** ranks.index(one.severity) for one in merged(reports)]
    numbers = (
        max(report.rows for report in reports),
        max(report.points for report in reports),
        sum(report.new_points for report in reports),
        round(sum(report.seconds for report in reports), 3),
        sum(weights),
        last,
    )
    return ",".join(map(str, numbers))


def _target(report: RunReport) -> str:
    """What happened to a run in one target."""
    plan = f": {escaped(report.plan)}" if report.plan else ""
    status = escaped(report.status)
    points = f"{report.points:,} points"
    new = f" ({report.new_points:,} new)" if 0 < report.new_points < report.points else ""
    facts = ", ".join(
        fact
        for fact in (
            f"{points}{new}" if report.points else "",
            VERIFIED[report.verified],
            f"{report.seconds:,.2f} s" if report.seconds else "",
        )
        if fact
    )
    where = _location(report.location) if report.location else ""
    return (
        f'<li class="{status}{" bad" * report.failed}"><b>{isolated(report.target)}</b> '
        f'<span class="state">{status}{plan}</span> <span>{facts}{where}</span>'
    )


def _location(location: str) -> str:
    url = _url(location)
    text = escaped(location)
    shown = f'<bdi class="place" title="{text}">{text}</bdi>'
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


def _trend(reports: Sequence[RunReport]) -> str:
    """The sparkline of a run, labelled with its metric, first and last value."""
    report = next((one for one in reports if one.trend), None)
    if report is None:
        return ""
    metric = isolated(report.trend_metric) if report.trend_metric else "main metric"
    ends = " → ".join(f"{value:.4g}" for value in (report.trend[0], report.trend[-1]))
    return f"{_sparkline(report.trend)}<br><small>{metric}<br>{ends}</small>"


def _sparkline(trend: Sequence[float]) -> str:
    low, high = min(trend) / 2, max(trend) / 2  # halves: their difference is always finite
    span = high - low or 1.0
    heights = [round((high - value / 2) / span * HEIGHT) if high > low else 10 for value in trend]
    points = " ".join(f"{2 * index} {height}" for index, height in enumerate(heights))
    line = f"M{points}" if len(trend) > 1 else f"M0 {heights[0]}h94"
    return f'<svg viewBox="0 0 96 20" aria-hidden="true"><path d="{line}"/></svg>'


def _findings(found: Mapping[Finding, Sequence[str]], reports: int) -> str:
    """The counts of the findings by severity, with the messages on a click."""
    if not found:
        return ""
    counts = Counter(finding.severity for finding in found)
    head = ", ".join(f"{counts[one]:,} {one.value}" for one in reversed(Severity) if counts[one])
    worst = next(iter(found)).severity
    items = "".join(_items(found, reports))
    return f'<details><summary class="{worst.value}">{head}</summary><ul>{items}</ul></details>'


def _items(found: Mapping[Finding, Sequence[str]], reports: int) -> Iterator[str]:
    for finding, targets in found.items():
        times = f" ({finding.count:,}×)" if finding.count > 1 else ""
        only = "" if len(targets) == reports else f" [{', '.join(map(isolated, targets))}]"
        place, message = redact_message(finding.where), redact_message(finding.message)
        yield (
            f'<li><span class="{finding.severity.value}">{finding.severity.value}</span> '
            f"{isolated(finding.code)}{times}{only}, {isolated(place)}: {isolated(message)}"
        )
