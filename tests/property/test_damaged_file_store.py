"""Random damage to the files of a store raises nothing, and costs only the run that it concerns."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.sources.mlflow.file_store import FileStore
from bridges.sources.mlflow.runs import run_of
from tests.mlflow_defects import NEIGHBOUR, OTHER, RUN, StoreFolder, put

DATASET = "name: d\ndigest: x\nsource_type: code\nsource: s\n"
INPUT = "source_id: d1\nsource_type: DATASET\ntags:\n  mlflow.data.context: training\n"
OUTPUT = "destination_id: m-1\nstep: 0\n"
MODEL = f"model_id: m-1\nname: m\nsource_run_id: {RUN}\nstatus: 2\n"
FILES = {
    f"0/{RUN}/inputs/i1/meta.yaml": INPUT,
    f"0/{RUN}/outputs/m-1/meta.yaml": OUTPUT,
    "0/datasets/d1/meta.yaml": DATASET,
    "0/models/m-1/meta.yaml": MODEL,
    "0/models/m-1/metrics/loss": f"1 0.5 1 {RUN} a set x\n",
    "0/models/m-1/params/p": "1",
    "0/tags/note": "x",
}


def damageable(root: Path) -> list[Path]:
    """The files that concern the run, or its experiment."""
    files = (path for path in (root / "0").rglob("*") if path.is_file())
    return sorted(path for path in files if NEIGHBOUR not in path.parts)


@settings(max_examples=200)
@given(st.data())
def test_damage_to_one_run_leaves_the_others(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = StoreFolder(Path(folder))
        store.make()
        for name, content in FILES.items():
            put(store.root / name, content)
        for path in data.draw(st.lists(st.sampled_from(damageable(store.root)), max_size=3)):
            before = path.read_bytes()
            start = data.draw(st.integers(0, len(before)))
            end = data.draw(st.integers(start, len(before)))
            path.write_bytes(before[:start] + data.draw(st.binary(max_size=40)) + before[end:])
        reader = FileStore(folder)
        heads = [head for each in reader.experiments() for head in reader.heads(each)]
        runs = {head.run_id: run_of(*reader.read(head), folder) for head in heads}
        reader.left_out()
        assert runs.keys() >= {NEIGHBOUR, OTHER}
        assert all(runs[run_id].stream.points == 2 for run_id in (NEIGHBOUR, OTHER))
        assert all(RUN in error.source or "meta.yaml" in error.source for error in reader.errors)
