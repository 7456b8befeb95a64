"""The gaps of a run from MLflow: details of its record missing in the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bridges.exporters.base import RecordGaps
from bridges.exporters.mlflow.database import Session, deleted_meanwhile
from bridges.exporters.mlflow.details import UNENDED, Details
from bridges.formats.mlflow_store.records import DELETED, KEY_TAG, NAME_TAG, PARENT_TAG


@dataclass(frozen=True)
class StoredDetails:
    """The stored details of a run which change while it goes on."""

    name: str
    status: str
    end: int | None
    stage: str
    tags: Mapping[str, str]
    params: Mapping[str, str]


_DETAILS = (  # one query for three tables
    "select 'runs', name, status, lifecycle_stage, end_time from runs where run_uuid = ?"
    " union all select 'tags', key, value, null, null from tags where run_uuid = ?"
    " union all select 'params', key, value, null, null from params where run_uuid = ?"
)


def stored_details(session: Session, run_id: str) -> StoredDetails:
    """The details of a run. Raises ExportError if another program deleted it."""
    found = session.execute(_DETAILS, (run_id,) * 3).fetchall()
    own = [row for row in found if row[0] == "runs"]
    if not own:
        raise deleted_meanwhile()
    _, name, status, stage, end = own[0]
    tags, params = (
        {key: text for kind, key, text, *_ in found if kind == table}
        for table in ("tags", "params")
    )
    return StoredDetails(name or "", status, end, stage, tags, params)


def gaps_between(
    details: Details,
    params: Mapping[str, object],
    stored: StoredDetails,
    rows: Mapping[str, int] = MappingProxyType({}),
) -> RecordGaps:
    """The gaps of a stored run; `rows` counts its missing rows in other tables.

    A status other than RUNNING, and existing tags, are those of the target: people change them.
    Existing params never change. A run of another writer may lack its key, and the tag of its name.
    """
    missing = []
    if status_to_set(details, stored) is not None:
        missing.append("status")
    if details.stage == DELETED != stored.stage:
        missing.append("life-cycle stage")
    if details.updates.get(PARENT_TAG, stored.tags.get(PARENT_TAG)) != stored.tags.get(PARENT_TAG):
        missing.append(f"tag {PARENT_TAG!r}")
    lacking = details.tags.keys() - stored.tags.keys() - {KEY_TAG}
    if details.tags.get(NAME_TAG) == stored.name:
        lacking -= {NAME_TAG}
    missing += [f"tag {key!r}" for key in sorted(lacking)]
    missing += [f"param {key!r}" for key in params if key not in stored.params]
    missing += [f"{count} rows of {table}" for table, count in rows.items()]
    different = [f"param {k!r}" for k, text in params.items() if stored.params.get(k, text) != text]
    return RecordGaps(tuple(dict.fromkeys(missing)), tuple(different))


def status_to_set(details: Details, stored: StoredDetails) -> tuple[str, int | None] | None:
    """Status and end to set in the target; None if it has them."""
    is_same = (details.status, details.end) == (stored.status, stored.end)
    return None if is_same or stored.status not in UNENDED else (details.status, details.end)
