"""Reads the runs of wandb 0.8 and 0.9: rows as JSON lines, with YAML and JSON files beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.formats.wandb_log.records import RunLog, RunRecord
from bridges.formats.wandb_log.rows import HistoryColumns
from bridges.sources.sidecars.yaml_settings import read_yaml
from bridges.sources.times.iso import microseconds
from bridges.sources.wandb.claims import HISTORY_NAME, METADATA_NAME
from bridges.sources.wandb.logs import EmptyLogError, ReadLog, open_log
from bridges.sources.wandb.places import CONFIG_NAME, EVENTS_NAME, SUMMARY_NAME, LogPlace
from bridges.sources.wandb.rows import moments_of
from bridges.stream.finding import Finding, Severity

ROWS_AT_ONCE = 4096


def read_early(place: LogPlace, history: HistoryColumns) -> ReadLog:
    """Add the rows of an early run to a history. Raises SourceError, EmptyLogError."""
    files = {path.replace("\\", "/").rpartition("/")[2]: path for path in place.files}
    found = ReadLog(files[HISTORY_NAME], RunLog(), -history.count)
    rows: list[Mapping[str, object]] = []
    for row in _rows(files[HISTORY_NAME], found):
        rows.append(row)
        if len(rows) == ROWS_AT_ONCE:
            history.add_rows(rows)
            rows = []
    history.add_rows(rows)
    found.rows += history.count
    metadata = _json(files[METADATA_NAME], found)
    config = _config(files, found)
    own = config.pop("_wandb", None)
    log = found.log
    log.run = _record(metadata, place.run_id)
    log.config = {(key,): value for key, value in config.items()}
    if SUMMARY_NAME in files:
        summary = _json(files[SUMMARY_NAME], found)
        log.summary = {(key,): value for key, value in summary.items()}
    code = metadata.get("exitcode")
    log.exit_code = code if isinstance(code, int) else None
    log.writer = str(own.get("cli_version", "")) if isinstance(own, dict) else ""
    if EVENTS_NAME in files:
        log.stats = [*moments_of(_rows(files[EVENTS_NAME], found))]
    return found


def early_head(place: LogPlace) -> RunRecord:
    """The labels in the metadata of an early run; an empty record if they cannot be read."""
    paths = [path for path in place.files if path.endswith(METADATA_NAME)]
    return _record(_json(paths[0], ReadLog(place.path, RunLog())), place.run_id)


def _rows(path: str, found: ReadLog) -> Iterator[dict[str, object]]:
    """The objects in JSON lines; a cut last line is left out."""
    try:
        with open_log(path) as file:
            content = file.read()
    except EmptyLogError:
        return
    lines = content.splitlines()
    bad = 0
    for number, line in enumerate(lines):
        row = _parsed(line)
        if isinstance(row, dict):
            yield row
        elif number == len(lines) - 1 and not content.endswith(b"\n"):
            message = "the last line is cut: its bytes are left out"
            found.findings.append(Finding("torn-tail", Severity.INFO, path, message, len(line)))
        else:
            bad += bool(line.strip())
    if bad:
        message = "lines other than JSON objects are left out"
        found.findings.append(Finding("unreadable-records", Severity.LOSS, path, message, bad))


def _parsed(text: bytes) -> object:
    try:
        return from_json(text)
    except ValueError:
        return None


def _json(path: str, found: ReadLog) -> dict[str, object]:
    """The object in a JSON file; empty with a finding if it cannot be read."""
    try:
        with open_log(path) as file:
            content = json.loads(file.read())
    except (EmptyLogError, SourceError, ValueError):
        content = None
    if isinstance(content, dict):
        return content
    message = "the file is not a JSON object; its values are left out"
    found.findings.append(Finding("unreadable-records", Severity.LOSS, path, message))
    return {}


def _config(files: Mapping[str, str], found: ReadLog) -> dict[str, object]:
    """The values in `config.yaml`."""
    if CONFIG_NAME not in files:
        return {}
    path = files[CONFIG_NAME]
    try:
        with open_log(path) as file:
            settings = read_yaml(file.read())
    except (EmptyLogError, SourceError, ValueError, TypeError) as error:
        message = f"the config cannot be read: {error}"
        found.findings.append(Finding("unreadable-records", Severity.LOSS, path, message))
        return {}
    entries = settings.items()
    return {k: v["value"] for k, v in entries if isinstance(v, dict) and "value" in v}


def _record(metadata: Mapping[str, object], run_id: str) -> RunRecord:
    def text(key: str) -> str:
        value = metadata.get(key)
        return value if isinstance(value, str) else ""

    start = microseconds(metadata.get("startedAt"))
    return RunRecord(
        run_id, project=text("project"), name=text("name"), notes=text("notes"), start=start
    )
