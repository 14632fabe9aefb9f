"""The dreamlake side of the benchmarks: each verb is one piece of work in a fresh process.

The lake is opened inside the timed part unless the verb says otherwise, importing dreamlake is not: it has a benchmark
of its own. Neither is importing what moves or codes large files: a program that trains has loaded NumPy long before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from dreamlake import Session, open_lake
from tools.bench.harness import serve

WORKSPACE = "bench"
NAME = "run"


def _load() -> None:
    for library in ("numpy", "zstandard", "blake3"):
        import_module(library)
    time.sleep(0.2)  # the threads of NumPy's BLAS spin on every core for a moment before they go to sleep


def _session(request: dict[str, Any]) -> Session:
    if "remote" in request:
        return Session(NAME, WORKSPACE, remote=request["remote"])
    return Session(NAME, WORKSPACE, local_path=request["lake"])


def _prepare(request: dict[str, Any]) -> None:
    """Clients of remote mode are imported before the timed part, as the other side's are."""
    if "remote" in request:
        import boto3  # noqa: F401
        import pymongo  # noqa: F401


def _upload(request: dict[str, Any]) -> Callable[[], None]:
    """Upload the sources one after another, each acknowledged before the next begins."""
    _load()
    _prepare(request)

    def work() -> None:
        with _session(request) as session:
            for source in request["sources"]:
                session.files().upload(source, path=request.get("path", "/"), encoding=request["encoding"])

    return work


def _upload_open(request: dict[str, Any]) -> Callable[[], None]:
    """One upload in a session that is open already: what a call inside a training loop costs."""
    session = _session(request).open()

    def work() -> None:
        session.files().upload(request["source"], encoding=request["encoding"])

    return work


def _materialize(request: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        return {"count": open_lake(request["lake"]).materialize(to=request["dest"], link=request["link"]).placed}

    return work


def _download(request: dict[str, Any]) -> Callable[[], None]:
    _load()

    _prepare(request)

    def work() -> None:
        with _session(request) as session:
            for number, path in enumerate(request["paths"]):
                session.files().download(path, str(Path(request["dest"]) / str(number)))

    return work


def _list(request: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        with _session(request) as session:
            return {"count": len(session.files().list())}

    return work


def _find(request: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        with _session(request) as session:
            found = session.files().find(where=request["where"], order="-size,path", limit=10)
            return {"count": len(found)}

    return work


def _records(request: dict[str, Any]) -> Callable[[], None]:
    """All records as one JSON file, which is what the baseline of listing reads."""
    import json

    def work() -> None:
        with _session(request) as session:
            Path(request["file"]).write_text(json.dumps(session.files().list()), encoding="utf-8")

    return work


def _look_up(request: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        with _session(request) as session:
            return {"size": session.files().get(request["path"])["sizeBytes"]}

    return work


def _delete(request: dict[str, Any]) -> Callable[[], None]:
    def work() -> None:
        with _session(request) as session:
            session.files().delete(request["path"], recursive=True)

    return work


def _collect(request: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        return {"count": open_lake(request["lake"]).collect(now=True, keep_deleted=0).freed.count}

    return work


def _optimize(request: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        return {"count": open_lake(request["lake"]).optimize().turned_versions}

    return work


def _track(request: dict[str, Any]) -> Callable[[], None]:
    def work() -> None:
        with _session(request) as session:
            track = session.track("loss")
            for step in range(request["points"]):
                track.append(step=step, loss=1 / (step + 1))

    return work


VERBS = {
    "upload": _upload,
    "upload-open": _upload_open,
    "materialize": _materialize,
    "download": _download,
    "list": _list,
    "records": _records,
    "find": _find,
    "look-up": _look_up,
    "delete": _delete,
    "collect": _collect,
    "optimize": _optimize,
    "track": _track,
}

if __name__ == "__main__":
    serve(VERBS)
