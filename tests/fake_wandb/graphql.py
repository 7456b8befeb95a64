"""The GraphQL operations of the fake server, by the queries of wandb 0.15 to 0.31."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tests.fake_wandb.runs import FakeRun, Store, base64_text

ENTITY = "fake-entity"  # of the API key
SAMPLES = 500  # unless a request asks for another number
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")
Json = dict[str, Any]


class GraphQL:
    """The GraphQL operations of the clients: each returns the data of its answer."""

    def __init__(self, store: Store, url: str, *, as_served: bool = False) -> None:
        self._store = store
        self._url = url
        self._as_served = as_served
        project_run = ("Run", "RunHistoryKeys", "RunParquetHistory", "QueryRunInfo", "RunState",
                       "GetRun", "LightweightRun")  # fmt: skip
        self._operations: dict[str, Callable[[Json], Json]] = {
            **dict.fromkeys(("Viewer", "GetViewer", "GetDefaultEntity"), self._viewer),
            **dict.fromkeys(project_run, self._project_run),
            "UpsertBucket": self._upsert,
            "RunResumeStatus": self._resume,
            "RewindRun": self._rewind,
            "CreateRunFiles": self._create_files,
            "Runs": self._runs,
            "RunFiles": self._run_files,
            "HistoryPage": self._history_page,
            "SampledHistoryPage": self._sampled,
            "RunFullHistory": self._full_history,
        }

    def answer(self, body: Mapping[str, Any]) -> Json:
        """The answer to a request. Raises DeletedError."""
        name = operation_of(body)
        if name in CONSTANT:
            return {"data": CONSTANT[name]}
        if name not in self._operations:
            return {"data": None, "errors": [{"message": f"fake: unknown operation {name}"}]}
        with self._store.lock:
            try:
                return {"data": self._operations[name](body.get("variables") or {})}
            except (AttributeError, LookupError, TypeError, ValueError) as error:  # for the client
                message = f"fake: {name}: {type(error).__name__}: {error}"
                return {"data": None, "errors": [{"message": message}]}

    def _find(self, variables: Json) -> FakeRun | None:
        """The run in the variables; their names differ between operations and releases."""
        names = (("entity", "entityName"), ("project", "projectName"),
                 ("name", "run", "runId", "runName"))  # fmt: skip
        entity, project, name = (
            next((variables[each] for each in same if variables.get(each)), None) for same in names
        )
        return self._store.runs.get((entity or ENTITY, project or "", name or ""))

    def _viewer(self, variables: Json) -> Json:
        names = dict.fromkeys(("entity", "username", "name"), ENTITY)
        viewer = {
            "id": base64_text("User:1"),
            **names,
            "email": "nobody@example.invalid",
            "flags": "{}",
            "admin": False,
            "deletedAt": None,
            "apiKeys": _edges([]),
            "teams": _edges([{"name": ENTITY}]),
        }
        return {"viewer": viewer}

    def _upsert(self, variables: Json) -> Json:
        run = self._store.by_id(variables["id"]) if variables.get("id") else None
        inserted = False
        if run is None:
            entity, project = variables.get("entity"), variables.get("project")
            key = entity or ENTITY, project or "uncategorized", variables["name"]
            inserted = key not in self._store.runs
            run = self._store.get(key)
        run.update(variables)
        return {"upsertBucket": {"bucket": _bucket(run), "inserted": inserted}}

    def _rewind(self, variables: Json) -> Json:
        """Remove the rows behind a step: the run goes on from there."""
        run, step = self._find(variables), variables["metricValue"]
        if run is None:
            return {"rewindRun": {"rewoundRun": None}}
        run.history = [line for at, line in run.rows if at <= step]
        return {"rewindRun": {"rewoundRun": _bucket(run)}}

    def _resume(self, variables: Json) -> Json:
        run = self._find(variables)
        entity = {"id": "e", "name": variables.get("entity") or ENTITY}
        model = {"id": "x", "name": variables.get("project"), "entity": entity, "bucket": None}
        if run is None:
            return {"model": model}
        internal = json.loads(run.config or "{}").get("_wandb", {}).get("value", {})
        bucket = {
            "id": run.id,
            "name": run.name,
            "displayName": run.display_name,
            "config": run.config or "{}",
            "wandbConfig": json.dumps({key: internal[key] for key in internal if key == "t"}),
            "tags": run.tags,
            "notes": run.notes,
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": len(run.output),
            "historyLineCount": len(run.history),
            "eventsLineCount": len(run.events),
            "historyTail": json.dumps(run.history[-1:]),
            "eventsTail": json.dumps(run.events[-1:]),
        }
        return {"model": {**model, "bucket": bucket}}

    def _create_files(self, variables: Json) -> Json:
        run = "/".join(variables[name] for name in ("entity", "project", "run"))
        files = [
            {"name": name, "uploadUrl": f"{self._url}/_storage/{run}/{quote(name, safe='')}"}
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}

    def _runs(self, variables: Json) -> Json:
        place = variables["entity"], variables["project"]
        runs = [run for key, run in self._store.runs.items() if key[:2] == place]
        if not runs:
            return {"project": None}
        filters = json.loads(variables.get("filters") or "{}")
        nodes = [_node(run) for run in runs if _matches(run, filters)]
        project = {"internalId": "1", "runCount": len(nodes), "readOnly": False}
        runs_page = _page(nodes, variables.get("cursor"), variables.get("perPage") or len(nodes))
        return {"project": {**project, "runs": runs_page}}

    def _run_files(self, variables: Json) -> Json:
        run = self._find(variables)
        if run is None:
            return {"project": {"run": None}}
        wanted = variables.get("fileNames") or run.sums
        nodes = [_file(name, *run.sums[name]) for name in run.sums if name in wanted]
        files = {"fileCount": len(run.sums), "files": _page(nodes)}
        return {"project": {"internalId": "1", "run": files}}

    def _history_page(self, variables: Json) -> Json:
        run = self._find(variables)
        if run is None:
            return {"project": None}
        low, high = variables["minStep"], variables["maxStep"]
        lines = [line for step, line in run.rows if low <= step < high]
        if self._as_served:
            lines = [*_served(lines, [line for _, line in run.rows])]
        return {"project": {"run": {"history": lines[: variables["pageSize"]]}}}

    def _sampled(self, variables: Json) -> Json:
        run, spec = self._find(variables), json.loads(variables["spec"])
        assert run is not None
        low, high = spec.get("minStep", 0), spec.get("maxStep", sys.maxsize)
        rows = [json.loads(line) for step, line in run.rows if low <= step <= high]
        keys = spec["keys"]
        some = [{key: row[key] for key in keys} for row in rows if row.keys() >= {*keys}]
        return {"project": {"run": {"sampledHistory": [some]}}}

    def _full_history(self, variables: Json) -> Json:
        """Some rows and system metrics, evenly chosen."""
        run, count = self._find(variables), variables.get("samples") or SAMPLES
        assert run is not None
        events = [line for line in run.events if line is not None]
        rows = [line for _, line in run.rows]
        if self._as_served:
            rows = [*_served(rows, rows)]
        node = {"history": _sample(rows, count), "events": _sample(events, count)}
        return {"project": {"run": node}}

    def _project_run(self, variables: Json) -> Json:
        run = self._find(variables)
        if run is None:
            return {"project": None}
        parquet = {"parquetUrls": [], "liveData": [{"_step": 0}] if run.history else []}
        node = {**_node(run), "parquetHistory": parquet, "runInfo": None}
        return {"project": {"internalId": "1", "run": node}}


def _served(lines: Sequence[str], every: Sequence[str]) -> Iterator[str]:
    """The lines as a real server gives them: with null for the keys of other rows, and texts in
    place of NaN and infinities.
    """
    keys = {key: None for line in every for key in json.loads(line)}
    for line in lines:
        yield json.dumps(_plain({**keys, **json.loads(line)}))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def operation_of(body: Mapping[str, Any]) -> str:
    """The name of the operation of a request."""
    found = OPERATION.search(body.get("query", ""))
    return body.get("operationName") or (found[1] if found else "?")


CONSTANT: dict[str, Json] = {  # answers without variables
    "MarkRunFilesUploaded": {"markRunFilesUploaded": {"success": True}},
    "ServerFeaturesQuery": {"serverInfo": {"features": []}},
    "ServerInfo": {
        "serverInfo": {
            "cliVersionInfo": {"max_cli_version": "9.9.9"},
            "latestLocalVersionInfo": None,
        }
    },
    "RunStoppedStatus": {"project": {"run": {"stopped": False}}},
    # of the sync up to 0.29
    "ProbeServerSettings": {"ServerSettingsType": {"fields": [{"name": "x"}]}},
    "ProbeServerCapabilities": {
        "QueryType": {"fields": [{"name": "serverInfo", "args": []}]},
        "MutationType": {"fields": [{"name": "createRunFiles", "args": []}]},
        "ServerInfoType": {"fields": [{"name": "cliVersionInfo"}]},
    },
}


def _edges(nodes: Sequence[Json]) -> Json:
    return {"edges": [{"node": node, "cursor": str(at)} for at, node in enumerate(nodes)]}


def _page(nodes: Sequence[Json], after: str | None = None, count: int | None = None) -> Json:
    """A page of a listing: up to `count` nodes behind a cursor."""
    start = int(after) + 1 if after else 0
    stop = len(nodes) if count is None else min(start + count, len(nodes))
    edges = _edges(nodes)["edges"][start:stop]
    info = {"endCursor": str(stop - 1), "hasNextPage": stop < len(nodes)}
    return {"edges": edges, "pageInfo": info}


def _bucket(run: FakeRun) -> Json:
    """A run in the answers to its writers."""
    return {
        "id": run.id,
        "name": run.name,
        "displayName": run.display_name or run.name,
        "description": run.notes,
        "config": run.config,
        "sweepName": run.sweep,
        "project": {
            "id": base64_text(f"Project:v1:{run.project}"),
            "name": run.project,
            "entity": {"id": base64_text(f"Entity:{run.entity}"), "name": run.entity},
        },
        "historyLineCount": len(run.history),
    }


def _node(run: FakeRun) -> Json:
    """A run in the answers to `wandb.Api`."""
    last = max((step for step, _ in run.rows), default=-1)
    created = "2000-01-01T00:00:00Z"
    return {
        "id": run.id,
        "projectId": "1",
        "name": run.name,
        "displayName": run.display_name or run.name,
        "state": run.state,
        "config": run.config or "{}",
        "tags": run.tags,
        "group": run.group,
        "jobType": run.job_type,
        "commit": run.commit,
        "sweepName": run.sweep,
        "description": run.notes,
        "notes": run.notes,
        "summaryMetrics": json.dumps(run.summary),
        "systemMetrics": json.dumps(_last(run.events)),
        "historyLineCount": len(run.history),
        "historyKeys": {"lastStep": last, "keys": {}},
        "createdAt": created,
        "heartbeatAt": created,
        "readOnly": False,
        "stopped": False,
        "user": {"name": ENTITY, "username": ENTITY},
    }


def _sample(lines: Sequence[str], count: int) -> Sequence[str]:
    """At most `count` lines, evenly chosen."""
    return lines[:: -(-len(lines) // count) or 1]


def _last(lines: Sequence[str | None]) -> Json:
    """The last system metrics."""
    found = [json.loads(line) for line in lines if line is not None]
    return {key: value for row in found[-1:] for key, value in row.items() if key[0] != "_"}


def _file(name: str, size: int, md5: str) -> Json:
    """A file of a run in the answers to `wandb.Api`."""
    unused = {"url": "", "directUrl": "", "mimetype": "", "updatedAt": None}
    return {"id": base64_text(name), "name": name, "sizeBytes": str(size), "md5": md5, **unused}


def _matches(run: FakeRun, filters: Mapping[str, Any]) -> bool:
    """Whether a run matches filters of `wandb.Api`: `$or`, name and config, `$regex`."""
    for key, wanted in filters.items():
        if key == "$or":
            is_match = any(_matches(run, each) for each in wanted)
        elif isinstance(wanted, dict):
            found = _filtered(run, key)
            is_match = isinstance(found, str) and bool(re.search(wanted["$regex"], found))
        else:
            is_match = _filtered(run, key) == wanted
        if not is_match:
            return False
    return True


def _filtered(run: FakeRun, key: str) -> Any:
    """The value for the key of a filter: `name`, or `config.PATH`."""
    if key == "name":
        return run.name
    head, *path = key.split(".")
    if head != "config":
        raise ValueError(f"unknown filter {key}")
    found = json.loads(run.config or "{}")
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found["value"] if isinstance(found, dict) and "value" in found else found
