"""Options: each is declared once, and flags, config keys and keyword arguments are made from it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest
from pydantic import BaseModel, Field

import bridges
from bridges import plugins
from bridges.api_keywords import ExportKeywords, ReadKeywords, TargetKeywords
from bridges.cli import main as cli
from bridges.errors import ConfigError, ConfigFileError
from bridges.exporters.built_in import MODELS as TARGETS
from bridges.exporters.factory import make_exporters, model_of, option_names
from bridges.exporters.memory import MemoryExporter
from bridges.migration.config.config import CHOICES as OF_A_SOURCE
from bridges.migration.config.config import EngineSpec, SourceSpec
from bridges.migration.config.engine_options import EngineChoices
from bridges.migration.config.file import load
from bridges.option import described, kind_of, names
from bridges.pipeline.options import CHOICES, PARTS, ExportOptions, LayoutOptions, Pace, RunChoices
from bridges.sources.options import ReadChoices
from tests.support import state

MODELS = [*PARTS, *TARGETS.values(), EngineChoices, Pace]
FIELDS = [(model, field) for model in MODELS for field in described(model)]


class TypedOptions(BaseModel):
    depth: int = Field(default=1, ge=1)
    deep: bool = False


@dataclass(frozen=True)
class PlainOptions:
    depth: int = 1
    deep: bool = False


class TypedExporter(MemoryExporter):
    Options: Any = TypedOptions

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.options = options


class PlainExporter(TypedExporter):
    Options = PlainOptions


class KeywordExporter(MemoryExporter):
    def __init__(self, depth: Any = 1, deep: Any = False) -> None:
        super().__init__()
        self.options = PlainOptions(depth, deep)


@pytest.fixture(autouse=True)
def _plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (TypedExporter, PlainExporter, KeywordExporter):
        name = made.__name__.removesuffix("Exporter").lower()
        monkeypatch.setitem(plugins.BUILT_IN["exporters"], name, f"{__name__}:{made.__name__}")


@pytest.mark.parametrize(("model", "field"), FIELDS, ids=lambda each: getattr(each, "name", ""))
def test_every_option_is_a_sentence_and_is_on_the_command_line(model: Any, field: Any) -> None:
    assert field.about.help[0].isupper()
    assert field.about.help.endswith(".")
    command = cli.migrate if model is EngineChoices else cli.export
    if field.name != "retries":  # of an engine, for configs only
        assert field.name in {each.name for each in command.get_params(click.Context(command))}


@pytest.mark.parametrize("base", [ReadChoices, LayoutOptions, RunChoices, EngineChoices])
def test_old_releases_of_pydantic_need_no_names_for_the_annotations(base: Any) -> None:
    """They would look them up in the module of the config's model."""
    assert not [each for each in base.__annotations__.values() if isinstance(each, str)]


def test_the_targets_of_the_command_line_have_the_models_of_their_exporters() -> None:
    assert {name: model_of(name) for name in TARGETS} == TARGETS


def test_the_keyword_arguments_are_the_options() -> None:
    of_targets = [name for model in TARGETS.values() for name in names(model)]
    assert TargetKeywords.__annotations__.keys() == set(of_targets)
    assert ReadKeywords.__annotations__.keys() == {*names(ReadChoices), "source"}
    assert ExportKeywords.__annotations__.keys() == {*CHOICES, *of_targets}
    hints = get_type_hints(ExportKeywords)
    fields = [field for model in (*PARTS, *TARGETS.values()) for field in described(model)]
    assert {f.name: kind_of(hints[f.name])[1] for f in fields if f.choices} == {
        f.name: f.choices for f in fields if f.choices
    }


def test_a_config_has_the_choices_and_defaults_of_an_export() -> None:
    source, engine = SourceSpec(location="x"), EngineSpec()
    for model in (*PARTS, EngineChoices):
        for field in described(model):
            spec = engine if model is EngineChoices else source
            if model is EngineChoices or field.name in OF_A_SOURCE:
                assert getattr(spec, field.name) == field.default, field.name
    not_of_a_source = set(CHOICES) - set(OF_A_SOURCE)
    assert not_of_a_source == {"run_name", "group", "tags", "dry_run", "jobs"}


@pytest.mark.parametrize("target", ["typed", "plain"])
def test_the_model_of_a_plug_in_parses_texts(target: str) -> None:
    (made,) = make_exporters([target], {}, {"depth": "3", "deep": "true"})
    assert isinstance(made, TypedExporter)
    assert (made.options.depth, made.options.deep) == (3, True)
    assert option_names(target) == ("depth", "deep")
    with pytest.raises(ConfigError, match=f"^the option 'depth' of the target {target}: "):
        make_exporters([target], {}, {"depth": "deep"})
    with pytest.raises(ConfigError, match=r"^unknown option 'dept' for .* Did you mean 'depth'\?"):
        make_exporters([target], {"dept": 3})


def test_a_plug_in_without_a_model_gets_keyword_arguments() -> None:
    (made,) = make_exporters(["keyword"], {"deep": True}, {"depth": "3"})
    assert isinstance(made, KeywordExporter)
    assert vars(made.options) == {"depth": "3", "deep": True}


def test_texts_of_built_in_options_are_parsed() -> None:
    texts = {"force": "false", "mlflow_writer": "client", "tracking_uri": "sqlite:///x.db"}
    (made,) = make_exporters(["mlflow"], {}, texts)
    assert vars(made)["_force"] is False
    for name, text in (("force", "maybe"), ("mlflow_writer", "fast")):
        with pytest.raises(ConfigError, match=f"^the option {name}='{text}': Input should be "):
            make_exporters(["mlflow"], {}, {name: text})


def test_the_command_line_gives_texts_to_a_plug_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_bytes(state([{"loss": 1.0, "step": 1}]))
    command = ["export", str(path), "--to", "typed", "-o"]
    assert cli.run([*command, "depth=3"]) == 0
    assert cli.run([*command, "depth=0"]) == 2
    assert capsys.readouterr().err == (
        "error: the option 'depth' of the target typed: Input should be greater than or equal "
        "to 1\n"
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{to: typed, depth: 0}", "depth: found the number 0; expected no less than 1."),
        ("{to: plain, deep: [1]}", "deep: found a list; expected true or false."),
        ("{to: mlflow, force: 'no'}", "force: found the text 'no'; expected true or false."),
        ("{to: wandb, mode: onlin}", "mode: found the text 'onlin'; expected 'offline' or 'online'."
         " Did you mean 'online'?"),
        ("{to: tensorboard, logdir: 's3://x'}", "to: `logdir` s3://x: event files are written to a"
         " local directory. Export to a local directory, then copy all of it."),
    ],
)  # fmt: skip
def test_a_config_is_checked_by_the_models(target: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"sources: [x]\ntargets:\n- memory\n- {target}\n")
    with pytest.raises(ConfigFileError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:4: targets[1].{message}"


def test_an_option_without_a_value_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("sources: [x]\ntargets: [{to: wandb, project: , mode: null}]\n")
    assert load(path).targets[0].options == {}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"jobs": 0}, "jobs 0 is less than 1"),
        ({"jobs": 1000}, "jobs 1000 is more than 256"),
        ({"jobs": "4"}, "jobs '4' is not a whole number"),
        ({"max_unpacked": 0}, "max_unpacked 0 is less than 1"),
        ({"x_axis": "time"}, "x_axis 'time' is not one of step, epoch"),
        ({"mode": "on"}, "unknown option 'mode' for memory. Options: none."),
        (
            {"attach_source": True, "redact_home": True},
            "attach_source=True keeps the source",
        ),
    ],
)
def test_python_checks_the_bounds_of_the_command_line(choices: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bridges.export("x.json", to="memory", **choices)
    assert str(caught.value).startswith(message)


def test_each_function_has_its_own_choices(tmp_path: Path) -> None:
    unknown: Any = {"dry_run": True}
    for function in (bridges.verify, bridges.follow):
        with pytest.raises(ConfigError, match="unknown option 'dry_run' for memory"):
            function("x.json", to="memory", **unknown)
    with pytest.raises(TypeError, match="unexpected keyword argument 'dry_run'"):
        bridges.read("x.json", **unknown)
    with pytest.raises(ConfigError, match=r"^fill_from_events=True is for trainings"):
        bridges.follow("x.json", to="memory", fill_from_events=True)


def test_none_stands_for_the_default() -> None:
    assert ExportOptions.of(dict.fromkeys(CHOICES)) == ExportOptions()
    assert ExportOptions.of({"params": "lora_*"}).layout.params == ("lora_*",)
    with pytest.raises(TypeError, match="unknown choice 'x_axes'"):
        ExportOptions.of({"x_axes": "step"})


def test_option_models_are_values() -> None:
    """Equal, hashable and immutable like any frozen dataclass; their repr shows the fields."""
    one, other = LayoutOptions(x_axis="epoch"), LayoutOptions(x_axis="epoch")
    assert one == other
    assert hash(one) == hash(other)
    assert one != LayoutOptions()
    assert Pace() != LayoutOptions()
    assert repr(Pace(interval=1.0)) == "Pace(interval=1.0, idle_timeout=14400.0)"
    with pytest.raises(FrozenInstanceError):
        setattr(one, "x_axis", "step")  # noqa: B010
