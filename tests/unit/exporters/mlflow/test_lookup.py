"""Looking runs up by id and by tag."""

from __future__ import annotations

from bridges.exporters.mlflow.lookup import made_id, runs_with_key
from bridges.exporters.mlflow.state import MlflowRun


def run(run_id: str, *, superseded: bool = False) -> MlflowRun:
    return MlflowRun(run_id, "name", "active", "FINISHED", "", superseded)


def test_each_run_with_a_key_is_looked_up_once() -> None:
    """A run is found by its made id, by the tag of its key, or by both; each query takes time."""
    first, second = made_id(1, "key", 0), made_id(1, "key", 1)
    stored = {first: run(first), "a": run("a"), "b": run("b", superseded=True)}
    asked = []

    def find(run_id: str) -> MlflowRun | None:
        asked.append(run_id)
        return stored.get(run_id)

    found = runs_with_key(find, 1, "key", {"key": ["b", first, "a"], "other": ["c"]})
    assert [each.run_id for each in found] == [first, "a"]
    assert asked == [first, second, "b", "a"]
