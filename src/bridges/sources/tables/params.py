"""The settings in the files beside a table, with secrets masked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.huggingface.settings_digests import digests
from bridges.sources.fetch import fetch
from bridges.sources.sidecars import settings_notes
from bridges.sources.sidecars.json_settings import read_json
from bridges.sources.sidecars.plain_values import plain_values
from bridges.sources.sidecars.yaml_settings import read_yaml
from bridges.sources.tables.paths import exists, head_of, is_url, unreadable, within
from bridges.stream.finding import Finding
from bridges.stream.redact import redact
from bridges.stream.settings import Settings

MAX_BYTES = 5_000_000
_CATBOOST = "catboost_training.json"
_CATBOOST_ROWS = re.compile(rb',\s*"iterations"\s*:')


@dataclass
class Params:
    """The settings of a run, and the file of each."""

    values: dict[str, object] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """The digests of the settings, which distinguish runs with equal rows."""
        return Settings(digests(self.values))


def read_params(folder: str, names: tuple[str, ...], *, redact_home: bool = False) -> Params:
    """The settings in the files of these names; later files override earlier ones.

    An unreadable file is a finding.
    """
    params = Params()
    for name in names:
        path = within(folder, name)
        try:
            if not exists(path):
                _require_absent(path)
                continue
            _add(params, path, redact_home)
        except (SourceError, ValueError, TypeError, RecursionError) as error:
            params.findings.append(settings_notes.not_read(path, error))
    used = dict.fromkeys(params.files.values())
    if used:
        params.findings.append(settings_notes.from_files(used, len(params.values)))
    return params


def _require_absent(path: str) -> None:
    """Raises SourceError for a pipe, a directory or the like with the name of settings."""
    if is_url(path) or not os.path.lexists(path):
        return
    if error := unreadable(path):
        raise error


def _add(params: Params, path: str, redact_home: bool) -> None:
    values, masked = redact(plain_values(_read(path)), home=redact_home)
    params.values |= values
    params.files |= dict.fromkeys(values, path)
    params.findings += [replace(found, code="secret-masked-beside") for found in masked]


def _read(path: str) -> Mapping[str, object]:
    if path.endswith(_CATBOOST):
        return _catboost(path)
    data = fetch(path, MAX_BYTES, "a file of settings")
    return read_json(data) if path.endswith(".json") else read_yaml(data, any_tag=True)


def _catboost(path: str) -> dict[str, object]:
    """The settings at the beginning of CatBoost's file, before its iterations."""
    head = head_of(path)
    start = _CATBOOST_ROWS.search(head)
    found = from_json(head[: start.start()] + b"}" if start else head)
    meta = found.get("meta") if isinstance(found, dict) else None
    if not isinstance(meta, dict):
        raise TypeError("it has no object meta")
    return meta
