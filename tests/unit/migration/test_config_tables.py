"""The key `tables` of a config: formats of tables of the user's own."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml

from bridges.errors import ConfigFileError
from bridges.migration.config.config import MigrationConfig
from bridges.migration.config.file import load
from bridges.migration.config.targets import TargetSpec
from bridges.migration.fingerprint import settings_of
from bridges.sources.tables.own_formats import declared

TABLES = """\
tables:
  mine:
    files: ["runs/*/log.jsonl"]
    format: jsonl
    step: global_step
    timestamp: {column: ts, unit: s}
    exclude: [gpu_*]
    params: [config.json]
"""
REST = "sources: [{location: logs, format: mine}, other]\ntargets: [tensorboard]\n"


def written(folder: Path, text: str, name: str = "m.yaml") -> Path:
    """A config file."""
    path = folder / name
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> list[str]:
    """The problems of a config, without the path of its file."""
    path = written(folder, text)
    with pytest.raises(ConfigFileError) as caught:
        load(path)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_all_sources_know_the_formats(tmp_path: Path) -> None:
    config = load(written(tmp_path, TABLES + REST))
    for source in config.sources:
        options = pickle.loads(pickle.dumps(source)).read_options()
        format = declared(options)["mine"]
        assert (format.step, format.exclude) == (("global_step",), ("gpu_*",))
    assert config.sources[0].read_options().format == "mine"
    assert config.sources[0].source == "tables"
    assert load(written(tmp_path, REST.replace(", format: mine", ""))).sources[
        0
    ].read_options() == (
        MigrationConfig.model_validate({"sources": ["x"], "targets": ["tensorboard"]})
        .sources[0]
        .read_options()
    )


def test_toml(tmp_path: Path) -> None:
    text = (
        'sources = [{location = "logs", format = "mine"}]\ntargets = ["tensorboard"]\n'
        '[tables.mine]\nfiles = "*.log"\nelapsed = "seconds"\nepoch = "ep"\n'
    )
    (source,) = load(written(tmp_path, text, "m.toml")).sources
    format = declared(source.read_options())["mine"]
    assert format.elapsed is not None
    assert (format.files, format.elapsed.columns) == (("*.log",), ("seconds",))
    assert format.epoch == ("ep",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            TABLES.replace("step:", "stepp:") + REST,
            "5: tables.mine.stepp: found an unknown key; expected one of about, files,",
        ),
        (
            TABLES.replace("unit: s", "unit: h") + REST,
            "6: tables.mine.timestamp.unit: found the text 'h'; expected 's', 'ms', 'us' or 'iso'",
        ),
        (
            "tables:\n  mine:\n    step: a\n" + REST,
            "2: tables.mine.files: found no such key; it is required: Patterns of file names",
        ),
        ("tables: [a]\n" + REST, "1: tables: found a list; expected a mapping of keys to values"),
        (
            TABLES + REST.replace("format: mine", "format: mime"),
            "9: sources[0].format: 'mime': expected mine, lightning, ultralytics",
        ),
        (
            TABLES + REST.replace("format: mine", "format: gone.yaml"),
            "9: sources[0].format: /",
        ),
        (
            TABLES.replace("global_step", "${TABS_NOT_SET}") + REST,
            "5: tables.mine.step: found ${TABS_NOT_SET}, which is not set",
        ),
        (
            TABLES.replace("config.json", "sk-1234567890abcdefghijklmnop") + REST,
            "8: tables.mine.params[0]: found a value that looks like a credential",
        ),
    ],
)
def test_wrong_formats_are_named_with_their_lines(tmp_path: Path, text: str, expected: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(expected)


def test_names_of_columns_are_not_credentials(tmp_path: Path) -> None:
    text = "tables: {tokens: {files: a, key: path, step: num_tokens, exclude: [api_key]}}\n"
    config = load(written(tmp_path, text + REST.replace("format: mine", "format: tokens")))
    assert "tokens" in config.tables


def test_a_changed_format_is_another_setting(tmp_path: Path) -> None:
    """Runs of a format are read again if it changes, in the config or in a file."""
    target, found = TargetSpec(to="tensorboard"), []
    for step in ("a", "b", "b"):
        formats = {"tables": {"mine": {"files": "*.x", "step": step}}}
        own = written(tmp_path, yaml.safe_dump(formats), "f.yaml")
        plain = {"targets": ["tensorboard"]}
        spec = {"location": str(tmp_path)}
        inside = MigrationConfig.model_validate({**plain, **formats, "sources": [spec]})
        beside = MigrationConfig.model_validate(
            {**plain, "sources": [{**spec, "format": str(own)}]}
        )
        found.append([settings_of(each.sources[0], target, "") for each in (inside, beside)])
    first, second, third = found
    assert second == third
    assert [one != two for one, two in zip(first, second, strict=True)] == [True, True]
