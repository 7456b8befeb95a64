"""`bridge init`: a commented config for what was found, which `bridge migrate` runs as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridges.cli.main import run as bridge
from tests.support import state


def put(folder: Path, loss: float, **config: Any) -> None:
    folder.mkdir(parents=True)
    rows = [{"loss": loss / step, "step": step} for step in (1, 2, 3)]
    (folder / "trainer_state.json").write_bytes(state(rows, global_step=3))
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "out" / "a", 1.0, rate=0.1)
    put(tmp_path / "out" / "b", 2.0, rate=0.2)


def migrated(capsys: pytest.CaptureFixture[str], config: str = "migration.yaml") -> dict[str, int]:
    """The totals of the config as it is; every run must be there and verified."""
    capsys.readouterr()
    assert bridge(["migrate", config, "--json"]) == 0
    totals: dict[str, int] = json.loads(capsys.readouterr().out)["totals"]
    return totals


def test_the_config_runs_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert bridge(["init", "out"]) == 0
    out = capsys.readouterr().out
    assert out == "2 runs → migration.yaml\nNext: bridge migrate migration.yaml --dry-run\n"
    assert bridge(["migrate", "migration.yaml", "--dry-run"]) == 0
    assert (migrated(capsys)["exported"], migrated(capsys)["unchanged"]) == (2, 2)
    assert sorted(path.name for path in Path("runs").iterdir() if path.is_dir()) == ["a", "b"]


def test_what_was_found_is_in_comments() -> None:
    assert bridge(["init", "out", "-q"]) == 0
    text = Path("migration.yaml").read_text()
    assert "# Written by `bridge init` for 2 runs." in text
    assert "  # 2 runs: a, b\n" in text
    assert "# Params that differ: rate." in text
    assert yaml.safe_load(text) == {
        "sources": [{"location": "out"}],
        "targets": [{"to": "tensorboard", "logdir": "runs"}],
    }


def test_every_comment_is_a_valid_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "one").mkdir()
    (tmp_path / "out" / "one" / "trainer_state.json").write_bytes(state([{"loss": 9.0, "step": 1}]))
    assert bridge(["init", "out", "--to", "tensorboard", "--to", "mlflow", "--to", "wandb"]) == 0
    text = Path("migration.yaml").read_text()
    assert "leaves out 1 with fewer rows" in text
    lines = [line.replace("# ", "", 1) if line[:2] == "# " else line for line in text.splitlines()]
    active = "\n".join(lines[lines.index("defaults:") :])
    Path("all.yaml").write_text(active)
    assert {*yaml.safe_load(active)} == {"defaults", "sources", "targets", "engine"}
    totals = migrated(capsys, "all.yaml")
    assert totals["exported"] == 2 * 3


def test_clashing_names_get_a_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        put(tmp_path / "twins" / f"t{number}" / "run", 5.0 + number, rate=number)
    assert bridge(["init", "twins"]) == 0
    text = Path("migration.yaml").read_text()
    (source,) = yaml.safe_load(text)["sources"]
    assert source["location"] == "twins"
    migrated(capsys)


def test_locations_are_relative_to_the_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").mkdir()
    assert bridge(["init", "out/a", str(tmp_path / "out" / "b"), "-o", "configs/x.yaml"]) == 0
    sources = yaml.safe_load(Path("configs/x.yaml").read_text())["sources"]
    assert [one["location"] for one in sources] == ["../out/a", str(tmp_path / "out" / "b")]
    assert migrated(capsys, "configs/x.yaml")["exported"] == 2


def test_hostile_names_stay_in_their_comments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "n\nengine: {workers: 99}\u2028\x85x: #'\"{}${HOME}"
    put(tmp_path / "odd" / name, 7.0)
    put(tmp_path / "odd" / "plain", 8.0)
    assert bridge(["init", "odd", f"odd/{name}/trainer_state.json"]) == 0
    assert "engine" not in yaml.safe_load(Path("migration.yaml").read_text())
    assert migrated(capsys)["failed"] == 0


def test_a_file_that_is_there_stays(capsys: pytest.CaptureFixture[str]) -> None:
    Path("migration.yaml").write_text("mine")
    assert bridge(["init", "out"]) == 2
    assert "--force overwrites it" in capsys.readouterr().err
    assert Path("migration.yaml").read_text() == "mine"
    assert bridge(["init", "out", "--force"]) == 0
    assert "sources:" in Path("migration.yaml").read_text()


def test_the_config_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert bridge(["init", "out", "-o", "-"]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["sources"] == [{"location": "out"}]
    assert "bridge migrate migration.yaml --dry-run" in text
    assert not Path("migration.yaml").exists()


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["nothing"], "nothing"),
        (["out", "-o", "x.txt"], "expected a name that ends in .yaml"),
        (["out", "--to", "tensorbord"], "Did you mean 'tensorboard'?"),
        (["out", "-o", "no/x.yaml"], "cannot be written"),
    ):
        assert bridge(["init", *arguments]) == 2
        assert message in capsys.readouterr().err
        assert not Path("migration.yaml").exists()
    (tmp_path / "out" / "a" / "trainer_state.json").write_text("{")
    assert bridge(["init", "out"]) == 1  # the other run is in the config
    assert "  # 1 run: b\n" in Path("migration.yaml").read_text()
