"""Importing into a lake: folders, tars, MLflow runs, trees of earlier DreamLake releases.

Thin: the sources and the storing of files are in ``operations.importing``. This module puts what a source holds into
sessions: files, parameters, logs and tracks. A second import of the same source adds nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dreamlake import config, values
from dreamlake.errors import Conflict, InvalidInput, InvalidType, NotFound
from dreamlake.journal import LOGS, TRACKS, Journal, number_key
from dreamlake.lake import open_lake
from dreamlake.location import is_url
from dreamlake.logs import LEVELS
from dreamlake.model import DEFAULT_MAX_FILE_BYTES, session_key
from dreamlake.operations.importing import FoundSession, FoundTrack, Imported, Skip
from dreamlake.operations.importing.storing import store_files, survey_files
from dreamlake.session import Session

__all__ = ["KINDS", "import_into"]

KINDS = ("folder", "tar", "mlflow", "dreamlake")
_PAGE = 1000

Progress = Callable[[int], None]


def import_into(
    location: Any,
    kind: str,
    source: str | os.PathLike[str],
    *,
    session: str | None = None,
    path: str = "/",
    workspace: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Import a source into a lake, which is created if need be.

    Args:
        location: the lake, as ``open_lake`` takes it: a folder, or a remote; None: the configured one.
        kind: "folder" or "tar": all files go into ``session``, below ``path``; "mlflow": a file store, a session a run;
            "dreamlake": what DreamLake 0.2 to 0.4 wrote in local mode, a session a session.
        workspace: for "mlflow" and "dreamlake": one for all sessions, instead of their own.
        dry_run: count only; nothing is written, not even the lake.
        progress: called with bytes read since its last call.

    Returns:
        What was added, what was there already, what was left out and why.

    Raises:
        NotFound, InvalidInput: no such source, not of that kind, or beyond the limits (what was stored until then
            stays, and a repetition goes on from there).
    """
    report = Imported(dry_run)
    place = os.path.expanduser(os.fspath(source))
    for found in _sessions(kind, place, session, path, workspace, report.skip):
        into = _Into(location, found, report, any_version=kind == "tar", progress=progress)
        into.survey() if dry_run else into.store()
        if str(into.key) not in report.sessions:
            report.sessions.append(str(into.key))
    return report


def _sessions(
    kind: str, source: str, session: str | None, path: str, workspace: str | None, skip: Skip
) -> Iterator[FoundSession]:
    from dreamlake.operations.importing import earlier, folders, mlruns, tars

    if kind not in KINDS:
        raise InvalidInput(f"kind={kind!r}; there are {', '.join(KINDS)}")
    if kind in ("folder", "tar"):
        space, slash, name = (session or "").partition("/")
        if not slash:
            raise InvalidInput(f"a {kind} goes into a session: session='workspace/name'")
        key = session_key(space, name)
        limit = config.max_file_bytes() or DEFAULT_MAX_FILE_BYTES
        files = (
            folders.tree_of(source, path, skip)
            if kind == "folder"
            else tars.members_of(source, path, skip, max_file_bytes=limit)
        )
        yield FoundSession(key.workspace, key.name, source, files=files)
        return
    if session is not None or path != "/":
        raise InvalidInput(f"kind={kind!r} makes sessions of its own; workspace= may say where")
    if not os.path.isdir(source):
        raise NotFound(f"no such folder: {source}", path=source)
    runs = mlruns.runs_of(source, skip) if kind == "mlflow" else earlier.sessions_of(source, skip)
    count = 0
    for found in runs:
        count += 1
        if workspace is not None:
            found.workspace = workspace
        yield found
    if not count:
        what = "MLflow runs" if kind == "mlflow" else "sessions of DreamLake 0.2 to 0.4"
        raise InvalidInput(f"{source} holds no {what}", path=source)


class _Into:
    """One session of a source, on its way into a session of the lake."""

    def __init__(
        self, location: Any, found: FoundSession, report: Imported, *, any_version: bool, progress: Progress | None
    ) -> None:
        self._location, self._found, self._report = location, found, report
        self._any_version, self._progress = any_version, progress
        remote = not isinstance(location, (str, os.PathLike, type(None))) or is_url(location)
        self._place: dict[str, Any] = {"remote" if remote else "local_path": location, "capture": False}
        self.key = session_key(found.workspace, found.name)

    def survey(self) -> None:
        """Count what would be added."""
        found, report, key = self._found, self._report, self.key
        try:
            store = open_lake(self._location).store
            key = store.session(*self.key[:2])
            exists = store.catalog.view(key).info.exists
        except NotFound:
            store, exists = None, False
        survey_files(store if exists else None, key, found.files, report, any_version=self._any_version)
        if exists:
            with Session(self.key.name, self.key.workspace, **self._place) as session:
                self._side_data(session, dry_run=True)
            return
        report.parameters += len(self._usable_parameters(None))
        report.log_lines += sum(1 for _ in self._log_rows())
        report.points += sum(1 for track in found.tracks for _ in self._track_rows(track))

    def store(self) -> None:
        """Add what is not there."""
        given = self._about()
        session = Session(self.key.name, self.key.workspace, **self._place, **given)
        with session:
            files = session.files
            store_files(
                files._store, files._session, self._found.files, self._report,
                any_version=self._any_version, progress=self._progress,
            )  # fmt: skip
            self._side_data(session, dry_run=False)

    def _about(self) -> dict[str, Any]:
        """Description and so on for a new session; one that exists keeps its own."""
        try:
            lake = open_lake(self._location)
            if lake.info(lake.store.session(*self.key[:2])).exists:
                return {}
        except NotFound:
            pass
        given: dict[str, Any] = {}
        for name, value in self._found.about.items():
            try:
                Session(self.key.name, self.key.workspace, **self._place, **{name: value})
                given[name] = value
            except (InvalidInput, InvalidType) as error:
                self._report.skip(self._found.shown, f"its {name}: {error}")
        return given

    # ---- parameters, logs, tracks --------------------------------------------------------------------------------

    def _side_data(self, session: Session, *, dry_run: bool) -> None:
        journal = session._journal
        assert journal is not None
        fresh = self._usable_parameters(session)
        if fresh and not dry_run:
            session.parameters().set(fresh)
        self._report.parameters += len(fresh)
        self._report.log_lines += self._append(journal, LOGS, self._log_rows(), f"{self._found.shown}: logs", dry_run)
        for track in self._found.tracks:
            rows = self._track_rows(track)
            where = f"{self._found.shown}: track {track.name}"
            added = self._append(journal, TRACKS + track.name, rows, where, dry_run)
            if added and not dry_run:
                session.tracks().describe(track.name, track.about)
            self._report.points += added

    def _usable_parameters(self, session: Session | None) -> dict[str, Any]:
        """Parameters that are not there yet. One that cannot be stored beside the others is left out."""
        from dreamlake.parameters import check_parameters

        known = session.parameters().get() if session is not None else {}
        fresh: dict[str, Any] = {}
        for name, value in self._found.parameters.items():
            try:
                flat = check_parameters({**known, **fresh}, {name: value})
            except (InvalidInput, InvalidType, Conflict) as error:
                self._report.skip(f"{self._found.shown}: parameter {name}", str(error))
                continue
            fresh.update({part: item for part, item in flat.items() if part not in known or known[part] != item})
        return fresh

    def _log_rows(self) -> Iterator[dict[str, Any]]:
        for row in self._found.logs() if self._found.logs is not None else ():
            if row["level"] not in LEVELS:
                row = {**row, "level": "info", "metadata": {**(row["metadata"] or {}), "level": row["level"]}}
            yield from self._checked(row, f"{self._found.shown}: a log line")

    def _track_rows(self, track: FoundTrack) -> Iterator[dict[str, Any]]:
        for row in track.rows():
            yield from self._checked(row, f"{self._found.shown}: a point of {track.name}")

    def _checked(self, row: dict[str, Any], where: str) -> Iterable[dict[str, Any]]:
        try:
            return [values.checked(row, what="row")]
        except (InvalidInput, InvalidType) as error:
            self._report.skip(where, str(error))
            return []

    def _append(self, journal: Journal, stream: str, rows: Iterator[dict[str, Any]], where: str, dry_run: bool) -> int:
        """Add the rows that are not there yet. What is there must be how they begin; else all are left out."""
        number, total, done = number_key(stream), journal.extent(stream).total, 0
        while done < total:
            page = journal.read(stream, done, _PAGE)
            for there in page:
                ours = next(rows, None)
                if ours is None:
                    return 0
                there.pop(number, None)
                if values.encode(there) != values.encode(ours):
                    self._report.skip(where, "the session has others already, so these were left out")
                    return 0
            done += len(page)
        added = 0
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == _PAGE:
                added += self._flush(journal, stream, batch, dry_run)
        return added + self._flush(journal, stream, batch, dry_run)

    @staticmethod
    def _flush(journal: Journal, stream: str, batch: list[dict[str, Any]], dry_run: bool) -> int:
        count = len(batch)
        if batch and not dry_run:
            journal.append(stream, batch)
        batch.clear()
        return count
