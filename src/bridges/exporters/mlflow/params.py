"""The params of an MLflow run, as the live callback logs them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from bridges.exporters.mlflow.limits import Limits
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout
from bridges.stream.naming import encodable
from bridges.stream.tagging import named

ADAPTER = "peft_config"  # the live callback logs it to W&B only
_TRUE = ("1", "ON", "YES", "TRUE")  # as transformers reads environment variables


@dataclass(frozen=True)
class ParamRules:
    """Rules for logged params.

    `is_flat`  nested settings become one param per value
    `most`     maximum number of params; None for no limit
    """

    is_flat: bool = False
    most: int | None = None

    @classmethod
    def of_environment(cls) -> ParamRules:
        """The rules in MLFLOW_FLATTEN_PARAMS and MLFLOW_MAX_LOG_PARAMS, as for the callback."""
        is_flat = os.environ.get("MLFLOW_FLATTEN_PARAMS", "").upper() in _TRUE
        most = os.environ.get("MLFLOW_MAX_LOG_PARAMS", "")
        return cls(is_flat, int(most[:9]) if most.isdecimal() else None)


def params_of(
    layout: Layout, limits: Limits, rules: ParamRules
) -> tuple[dict[str, str], list[Finding]]:
    """The settings as MLflow params, with findings for omitted settings."""
    settings = {key: value for key, value in layout.params.items() if not _is_adapter(key, layout)}
    found = dict(_flat(settings.items())) if rules.is_flat else settings
    texts = {key: encodable(str(value)) for key, value in found.items()}
    taken = {key: text for key, text in texts.items() if limits.takes_param(key, text)}
    params = dict(islice(taken.items(), rules.most))
    refused = "MLflow does not accept this setting as a param; the live callback omits it too"
    findings = [
        Finding("param-refused", Severity.WARNING, f"param {key!r}", refused)
        for key in texts
        if key not in taken
    ]
    if len(settings) < len(layout.params):
        message = "the adapter's configuration is omitted: the live callback logs it to W&B only"
        findings.append(Finding("param-not-live", Severity.INFO, f"param {ADAPTER!r}", message))
    if len(params) < len(taken):
        left, message = [*taken][len(params) :], f"MLFLOW_MAX_LOG_PARAMS is {rules.most}"
        findings.append(_left_out(left, message))
    return params, findings


def _left_out(keys: list[str], why: str) -> Finding:
    message = f"these params are omitted: {why}"
    return Finding("params-left-out", Severity.INFO, named(keys), message, len(keys))


def _is_adapter(key: str, layout: Layout) -> bool:
    """Whether a param contains `adapter_config.json`."""
    return key == ADAPTER and layout.run.param_files.get(key, "").endswith("adapter_config.json")


def _flat(items: Iterable[tuple[object, object]], parent: str = "") -> Iterator[tuple[str, object]]:
    """Each value with the dotted path of its keys, as by `flatten_dict` of transformers."""
    for key, value in items:
        path = f"{parent}.{key}" if parent else str(key)
        if value and isinstance(value, Mapping):
            yield from _flat(value.items(), path)
        else:
            yield path, value
