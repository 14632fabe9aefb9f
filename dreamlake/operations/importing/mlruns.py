"""MLflow runs in a file store (``mlruns``) as a source.

    mlruns/<experiment id>/meta.yaml                    name, lifecycle_stage
      <run id>/meta.yaml                                run_name, status, start_time, end_time, lifecycle_stage
        params/<name>, tags/<name>                      the value
        metrics/<name>                                  lines "milliseconds value step"
        artifacts/...

A run becomes the session ``<run name>-<8 digits of its id>`` of the workspace that is called like its experiment: its
artifacts files, its metrics tracks, its parameters parameters (as text, which is all that MLflow keeps), its tags and
times metadata under ``mlflow``. MLflow itself is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from typing import Any

from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.journal.names import check_track_name
from dreamlake.model import session_key
from dreamlake.operations.importing import FoundSession, FoundTrack, Skip, read_small
from dreamlake.operations.importing.folders import files_below, tree_of
from dreamlake.ports import iso

__all__ = ["runs_of"]

_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_NOTE = "mlflow.note.content"
_MAX_VALUE = 1 << 20


def runs_of(root: str, skip: Skip, *, workspace: str | None = None) -> Iterator[FoundSession]:
    """The runs below ``mlruns``, or below one experiment of it, sorted by path.

    Args:
        workspace: one for all, instead of one an experiment.
    """
    experiments = [root] if os.path.isfile(os.path.join(root, "meta.yaml")) else sorted(_folders(root))
    for experiment in experiments:
        about = _meta(experiment, skip)
        if about is None:
            continue
        if about.get("lifecycle_stage") == "deleted":
            skip(experiment, "the experiment was deleted")
            continue
        for run in sorted(_folders(experiment)):
            if os.path.isfile(os.path.join(run, "meta.yaml")):
                try:
                    found = _run(run, about, workspace, skip)
                except (InvalidInput, InvalidType, OSError) as error:
                    skip(run, str(error))
                    continue
                if found is not None:
                    yield found


def _folders(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return [e.path for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]


def _meta(folder: str, skip: Skip) -> dict[str, Any] | None:
    """The flat mapping in ``meta.yaml``; None where there is none that reads."""
    file = os.path.join(folder, "meta.yaml")
    if not os.path.isfile(file) or os.path.islink(file):
        return None
    try:
        import yaml
    except ModuleNotFoundError:
        raise InvalidInput(f"reading {file} needs PyYAML: pip install 'dreamlake[import]'", path=file) from None
    try:
        found = yaml.safe_load(read_small(file, _MAX_VALUE))
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        skip(file, f"does not read: {' '.join(str(error).split())}")
        return None
    return found if isinstance(found, dict) else None


def _run(place: str, experiment: dict[str, Any], workspace: str | None, skip: Skip) -> FoundSession | None:
    about = _meta(place, skip)
    if about is None:
        return None
    if about.get("lifecycle_stage") == "deleted":
        skip(place, "the run was deleted")
        return None
    tags = dict(_values(os.path.join(place, "tags"), skip))
    run_id = str(about.get("run_id") or about.get("run_uuid") or os.path.basename(place))
    title = str(about.get("run_name") or tags.get("mlflow.runName") or "run").replace("/", "-")
    key = session_key(workspace or str(experiment.get("name", "mlflow")).replace("/", "-"), f"{title}-{run_id[:8]}")
    status = about.get("status")
    facts = {
        "run_id": run_id,
        "experiment": experiment.get("name"),
        "status": _STATUS.get(status, status) if isinstance(status, int) else status,
        "started_at": _milliseconds(about.get("start_time")),
        "ended_at": _milliseconds(about.get("end_time")),
        "user": about.get("user_id"),
        "tags": tags,
    }
    given: dict[str, Any] = {"metadata": {"mlflow": {name: value for name, value in facts.items() if value}}}
    if tags.get(_NOTE):
        given["description"] = tags[_NOTE]
    return FoundSession(
        key.workspace,
        key.name,
        place,
        files=_artifacts(place, about, skip),
        about=given,
        parameters=dict(_values(os.path.join(place, "params"), skip)),
        tracks=_metrics(os.path.join(place, "metrics"), skip),
    )


def _artifacts(place: str, about: dict[str, Any], skip: Skip) -> Any:
    """Those beside the run. What an address elsewhere names is not followed: it says nothing about whose it is."""
    folder = os.path.join(place, "artifacts")
    if os.path.isdir(folder) and not os.path.islink(folder):
        return tree_of(folder, "/", skip)
    uri = str(about.get("artifact_uri") or "")
    if uri and not uri.startswith(("file:", "/")):
        skip(place, f"its artifacts are elsewhere ({uri.partition('?')[0].rpartition('@')[2]}): download them first")
    return ()


def _values(folder: str, skip: Skip) -> Iterator[tuple[str, str]]:
    """Name and text of every file of a folder; a name may have slashes."""
    if not os.path.isdir(folder) or os.path.islink(folder):
        return
    for file, name, _ in files_below(folder, skip):
        try:
            yield name, read_small(file, _MAX_VALUE).decode()
        except (InvalidInput, OSError, UnicodeDecodeError) as error:
            skip(file, f"does not read: {error}")


def _metrics(folder: str, skip: Skip) -> list[FoundTrack]:
    found: list[FoundTrack] = []
    if not os.path.isdir(folder) or os.path.islink(folder):
        return found
    for file, name, _ in files_below(folder, skip):
        try:
            found.append(FoundTrack(check_track_name(name), partial(_points, file, skip), {}))
        except (InvalidInput, InvalidType) as error:
            skip(file, str(error))
    return found


def _points(file: str, skip: Skip) -> Iterator[dict[str, Any]]:
    with open(file, "rb") as lines:
        number = 0
        while line := lines.readline(_MAX_VALUE):
            number += 1
            fields = line.split()
            try:
                moment, value = _milliseconds(int(fields[0])), float(fields[1])
                step = int(fields[2]) if len(fields) > 2 else 0
            except (ValueError, IndexError):
                skip(f"{file}:{number}", "is no point of a metric")
                continue
            yield {"data": {"step": step, "value": value}, "createdAt": moment}


def _milliseconds(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return iso(datetime.fromtimestamp(value / 1000, timezone.utc))
    except (ValueError, OverflowError, OSError):
        return None
