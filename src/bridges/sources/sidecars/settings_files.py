"""The settings of a run from the files beside its history.

Later files override earlier ones, as in the live callbacks: the model card, the model's config (an
adapter's as `peft_config`), the arguments as written by other tools, and the Trainer's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from bridges.errors import SourceError
from bridges.huggingface.settings_digests import digests, file_digest
from bridges.sources.fetch import fetch
from bridges.sources.file_names import ARGUMENTS, CARD, SETTINGS_NAMES
from bridges.sources.sidecars import settings_notes
from bridges.sources.sidecars.json_settings import read_json
from bridges.sources.sidecars.live_params import (
    file_name,
    in_live_order,
    read_config,
    with_integer_keys,
)
from bridges.sources.sidecars.plain_values import plain_values
from bridges.sources.sidecars.yaml_settings import read_yaml
from bridges.sources.zero_bytes import zero_bytes
from bridges.stream.finding import Finding
from bridges.stream.redact import redact
from bridges.stream.settings import Settings as Identity

MAX_SETTINGS_BYTES = 5_000_000
NOT_PARAMS = frozenset({"mixed_precision", "fsdp_plugin_args"})  # internal to the Trainer
_CARD_LINE = re.compile(r"^- (\w[\w ]*): (.+)$", re.M)
_CARD_HEAD = re.compile(r"^#+ Training hyperparameters\s*$", re.M)


def _adapter(data: bytes) -> dict[str, object]:
    return {"peft_config": {"default": read_json(data)}}


def _arguments(data: bytes) -> dict[str, object]:
    from bridges.sources.sidecars.training_args import read_training_args

    settings = read_training_args(data).items()
    return {
        # the callbacks mask a token even if it is not set
        key: f"<{key.upper()}>" if key.endswith("_token") else value
        for key, value in settings
        if key not in NOT_PARAMS
    }


def _card(data: bytes) -> dict[str, object]:
    """The hyperparameters that transformers lists in a model card."""
    text = data.decode(errors="replace")
    head = _CARD_HEAD.search(text)
    if head is None:
        return {}
    section = text[head.end() :].split("\n#", 1)[0]
    return {name: _value(value.strip()) for name, value in _CARD_LINE.findall(section)}


def _value(text: str) -> object:
    """A number if the text is one, else the text."""
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        return float(text)
    return text


READERS: dict[str, Callable[[bytes], dict[str, object]]] = {
    CARD: _card,
    "config.json": read_config,
    "adapter_config.json": _adapter,
    "args.json": read_json,
    "training_args.yaml": read_yaml,
    ARGUMENTS: _arguments,
}


@dataclass
class Settings:
    """The settings of a run.

    `files` maps each param to its file, `kinds` each kind of file to its settings. `redact_home`
    also masks home directories.
    """

    redact_home: bool = False
    params: dict[str, object] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    kinds: dict[str, dict[str, object]] = field(default_factory=dict)

    def identity(self, of_state: Identity) -> Identity:
        """The digests of all settings, those of the state included, for comparing runs."""
        kinds = {kind: found for kind, found in self.kinds.items() if kind != CARD}
        merged = {key: value for found in kinds.values() for key, value in found.items()}
        files = {kind: file_digest(found) for kind, found in kinds.items()}
        return replace(of_state, known={**of_state.known, **digests(merged)}, files=files)

    def add(self, params: Mapping[str, object], file: str, kind: str | None = None) -> None:
        """Add settings, which override existing ones."""
        plain = plain_values(params)
        clean, masked = redact(plain, home=self.redact_home)
        values = map(with_integer_keys, clean.values(), plain.values())
        clean = dict(zip(clean, values, strict=True))
        self.params |= clean
        self.files |= dict.fromkeys(clean, file)
        if kind is not None:
            self.kinds[kind] = clean
        # another code than for secrets in the history, which prevent attaching the history file
        self.findings += [replace(found, code="secret-masked-beside") for found in masked]


def read_settings(
    own: Mapping[str, object],
    source: str,
    folders: Sequence[Sequence[str]],
    *,
    redact_home: bool = False,
) -> Settings:
    """The settings in the files of some directories, which override the history's `own`.

    A file name in several directories is read from the first. `redact_home` masks home directories.
    """
    settings = Settings(redact_home)
    settings.add(own, source)
    for name in SETTINGS_NAMES:
        for file in (file for folder in folders for file in folder):
            if file_name(file) == name:
                _read(file, name, settings)
                break
    settings.params = in_live_order(settings.params, settings.files)
    used = dict.fromkeys(file for file in settings.files.values() if file != source)
    if used:
        settings.findings.append(settings_notes.from_files(used, len(settings.params)))
    return settings


def _read(file: str, name: str, settings: Settings) -> None:
    try:
        data = fetch(file, MAX_SETTINGS_BYTES, "a file of settings")
        zeros = zero_bytes(data) if name != ARGUMENTS or not data.strip(b"\0") else None
        if zeros:
            raise ValueError(f"it contains {zeros}")
        settings.add(READERS[name](data), file, name)
    except (SourceError, ValueError, TypeError, RecursionError) as error:
        settings.findings.append(settings_notes.not_read(file, error))
