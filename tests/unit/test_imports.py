"""The import rule: data flows one way, and no command imports what it does not need."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Collection
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

import bridges
from bridges.migration.executors import PRELOADED
from tests.benchmarks.mlflow_files import make
from tests.mlflow_stores import unpack_store
from tests.support import DATA, REPOSITORY

PACKAGE = REPOSITORY / "src" / "bridges"
# from the ground up: a room may import itself and the rooms below it
ROOMS = (
    ("errors", "log"),
    ("option", "short_retries", "installed"),
    ("stream",),
    ("http",),
    ("report", "findings", "plugins", "formats", "huggingface"),
    ("sources", "exporters"),
    ("pipeline", "progress"),
    ("api_keywords", "option_names", "testing"),
    ("migration",),
    ("api", "views"),
    ("cli",),
    ("__main__", "__init__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
HEAVY = (
    *("numpy", "pydantic", "pydantic_core", "rich", "tensorboard", "mlflow", "wandb", "fsspec"),
    *("torch", "yaml", "urllib3", "filelock"),
)
RARE = (  # imported where the rare case begins
    *("concurrent.futures", "email.message", "importlib.metadata", "multiprocessing", "random"),
    *("shutil", "sqlite3", "tempfile", "urllib.parse", "zipfile"),
    "bridges.exporters.mlflow.exporter",
    "bridges.exporters.wandb.exporter",
    "bridges.migration",
    "bridges.pipeline.attachments",
    "bridges.pipeline.earlier_results",
    "bridges.pipeline.follow",
    "bridges.pipeline.lost_log",
    "bridges.pipeline.match_logged",
    "bridges.sources.sidecars.results",
    "bridges.sources.sidecars.training_args",
    "bridges.sources.times.event_points",
    "bridges.sources.tuning_logs.further_rows",
    "bridges.sources.tuning_logs.times",
    "bridges.sources.tuning_logs.tool_log",
    "bridges.views",
)
NOT_OF_ONE_FILE = (
    "bridges.sources.sidecars.settings_files",
    "bridges.sources.times.events",
    "bridges.sources.trainer.discovery",
    "bridges.sources.trainer.folding",
    "bridges.sources.trainer.read_tree",
    "bridges.sources.trainer.run_sidecars",
)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def home_of(module: str) -> str:
    """The module of a public name of the package; other modules are their own."""
    name = module.removeprefix("bridges.")
    homes = (home for home, names in bridges._HOMES.items() if name in names)
    return next(homes, module)


def imports(path: Path, *, resolved: bool = True) -> set[str]:
    """The modules of bridges that a file imports, anywhere in it.

    Public names of the package are `resolved` to their modules.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            is_public = node.module == "bridges" and resolved
            found |= set(map(home_of, names)) if is_public else {node.module}
    return {module for module in found if module.split(".")[0] == "bridges"}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_down_only(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in FLOOR, f"{room} has no place on the map"
    for module in imports(path):
        other = room_of(module)
        if module == "bridges.__version__" or other == room:
            continue
        assert FLOOR[other] < FLOOR[room], f"{path.name} must not import {module}"


def loaded_with(path: Path, modules: Collection[str]) -> set[str]:
    """The modules of bridges that Python imports before the code of a file runs."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names.intersection(modules) or {node.module}.intersection(modules)
    return found


def test_no_modules_import_each_other() -> None:
    modules = {
        ".".join(("bridges", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in PACKAGE.rglob("*.py")
    }
    graph = {module: loaded_with(path, modules) for module, path in modules.items()}
    assert sum(map(len, graph.values())) > len(graph)
    TopologicalSorter(graph).prepare()  # raises CycleError


FOREIGN = (  # trackers, libraries, and keys and settings that only these have
    "mlflow", "wandb", "w&b", "weights & biases", "tensorboard", "trackio",
    "train_runtime", "eval_runtime", "eval_", "train_loss", "total_flos", "log_history",
    "global_step", "learning_rate", "grad_norm", "num_train", "output_dir", "checkpoint",
    "the trainer", "trainer's", "trainer_", "transformers", "hugging", "llama", "swift",
    "deepspeed", "trl",
)  # fmt: skip
ALLOWED = {  # parts of the prefixes of secrets
    ("secret_rules.py", "wandb"),
    ("secret_rules.py", "hugging"),
}


@pytest.mark.parametrize("path", sorted((PACKAGE / "stream").glob("*.py")), ids=lambda p: p.name)
def test_the_stream_names_no_tracker_and_no_key_of_the_trainer(path: Path) -> None:
    text = path.read_text().lower()
    found = {word for word in FOREIGN if re.search(rf"(?<![a-z]){re.escape(word)}", text)}
    assert not {word for word in found if (path.name, word) not in ALLOWED}


def test_only_the_command_line_prints() -> None:
    """Elsewhere nothing is printed, and the libraries for terminals are not imported."""
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in ("cli", "__main__.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"click", "rich"}, path
            is_print = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            assert not is_print, path


def test_exporters_do_not_know_the_trainer() -> None:
    rooms = {
        room_of(module)
        for path in (PACKAGE / "exporters").rglob("*.py")
        for module in imports(path)
    }
    assert "huggingface" not in rooms


def loaded_by(*arguments: str) -> set[str]:
    """The names of all modules that are loaded after a command, packages without their modules."""
    code = (
        "import sys\n"
        f"sys.argv = ['bridge', *{list(arguments)!r}]\n"
        "from bridges.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('LOADED', *sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


def of_bridges(modules: set[str]) -> list[str]:
    return sorted(name for name in modules if name.split(".")[0] == "bridges")


@pytest.mark.parametrize(
    ("arguments", "most"),
    [(("--help",), 8), (("--version",), 8), (("export", "--help"), 29), (("ls", "--help"), 30)],
)
def test_help_and_version_import_nothing_heavy(arguments: tuple[str, ...], most: int) -> None:
    loaded = loaded_by(*arguments)
    assert loaded.isdisjoint({*HEAVY, *RARE} - {"shutil"})  # click imports it for help pages
    assert len(of_bridges(loaded)) <= most, of_bridges(loaded)


def test_an_export_imports_what_it_needs(tmp_path: Path) -> None:
    """One file into a new run: no tracker, and no module for rarer sources and runs."""
    target = ["--to", "tensorboard", "--logdir", str(tmp_path)]
    loaded = loaded_by("export", str(DATA / "seed.txt"), *target)
    assert loaded.intersection(HEAVY) == {"numpy", "pydantic_core"}
    assert loaded.isdisjoint({*RARE, *NOT_OF_ONE_FILE})
    assert len(of_bridges(loaded)) <= 125, of_bridges(loaded)


def output_directory(tmp_path: Path) -> str:
    """A run's output directory with one checkpoint."""
    folder = tmp_path / "out" / "checkpoint-500"
    folder.mkdir(parents=True)
    rows = [{"loss": 1.5, "step": 250}, {"loss": 0.5, "step": 500}]
    state = {"global_step": 500, "max_steps": 500, "log_history": rows}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return str(folder.parent)


def test_an_export_of_a_directory_imports_what_it_needs(tmp_path: Path) -> None:
    """Without a log, event files or results beside the states, nothing is imported for them."""
    target = ["--to", "tensorboard", "--logdir", str(tmp_path / "tb")]
    loaded = loaded_by("export", output_directory(tmp_path), *target)
    assert loaded.intersection(HEAVY) == {"numpy", "pydantic_core"}
    assert loaded.isdisjoint(RARE)
    assert len(of_bridges(loaded)) <= 144, of_bridges(loaded)


def test_an_export_to_wandb_imports_nothing_of_event_files(tmp_path: Path) -> None:
    target = ["--to", "wandb", "--wandb-dir", str(tmp_path / "offline")]
    loaded = loaded_by("export", output_directory(tmp_path), *target)
    assert "bridges.formats.wandb_log.rows" in loaded
    assert loaded.isdisjoint({"bridges.formats.events.reader", "numpy.ma"})


def test_an_export_of_an_mlflow_store_imports_no_other_source(tmp_path: Path) -> None:
    store = unpack_store("2.9.2", tmp_path)
    target = ["--to", "mlflow", "--tracking-uri", f"sqlite:///{tmp_path}/new.db"]
    loaded = loaded_by("export", str(store), *target)
    assert loaded.isdisjoint({"mlflow", "pydantic", "bridges.sources.tables.formats"})
    assert loaded.isdisjoint({"bridges.sources.wandb.source", "bridges.sources.tensorboard.source"})
    assert loaded.isdisjoint({"shutil", "bridges.exporters.mlflow.api"})


def test_an_export_of_metrics_with_few_points_needs_no_json_parser(tmp_path: Path) -> None:
    make(tmp_path / "mlruns", runs=2, keys=2, points=1, params=1, tags=1)
    target = ["--to", "mlflow", "--tracking-uri", f"sqlite:///{tmp_path}/new.db"]
    assert "pydantic_core" not in loaded_by("export", str(tmp_path / "mlruns"), *target)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts the threads of Linux")
def test_numpy_starts_no_threads() -> None:
    """Those of OpenBLAS spin for a while, which takes as much time as a small export."""
    code = (
        "import os, sys\n"
        "sys.argv = ['bridge', '--version']\n"
        "from bridges.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "import numpy\n"
        "print('THREADS', len(os.listdir('/proc/self/task')))\n"
    )
    others = {key: text for key, text in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=others
    )
    assert done.stdout.rpartition("THREADS")[2].split() == ["1"]


def test_an_export_of_a_table_imports_no_pydantic(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step,loss\n0,1,0.5\n")
    target = ["--to", "tensorboard", "--logdir", str(tmp_path / "tb")]
    loaded = loaded_by("export", str(tmp_path / "metrics.csv"), *target)
    assert "bridges.sources.tables.formats" in loaded
    assert "pydantic" not in loaded


def test_modules_known_by_name_exist() -> None:
    names = [*RARE, *NOT_OF_ONE_FILE, *PRELOADED]
    assert [name for name in names if find_spec(name) is None] == []


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import bridges, sys; print(*(n for n in {HEAVY!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_public_names_are_sorted_and_there() -> None:
    assert bridges.__all__ == sorted(bridges.__all__)
    assert all(hasattr(bridges, name) for name in bridges.__all__)
    assert dir(bridges) == bridges.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bridges.nothing


def test_no_module_hides_a_public_name() -> None:
    """A module of the package takes the place of a function of that name once it is imported."""
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert modules.isdisjoint(bridges.__all__)


def test_no_type_error_is_ignored() -> None:
    ignored = "type: " + "ignore"
    files = (path for folder in ("src", "tests") for path in (REPOSITORY / folder).rglob("*.py"))
    assert [path for path in files if ignored in path.read_text()] == []


def test_modules_are_small() -> None:
    sizes = {str(path): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: size for name, size in sizes.items() if size > 500} == {}
