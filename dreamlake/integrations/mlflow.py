"""MLflow: artifacts in a lake. MLflow finds this by the scheme ``dreamlake://`` of an artifact location.

``pip install dreamlake[mlflow]``, then one setting gives MLflow users deduplication::

    mlflow.create_experiment("vision", artifact_location="dreamlake://mlflow/vision")

An artifact location is an address: ``dreamlake://workspace/session/path``. MLflow puts the run's id behind it, so the
artifacts of all runs of that experiment lie in one session, those of a run below ``/<run id>/artifacts``; with
``dreamlake://workspace`` every run has a session of its own. Which lake: ``?local_path=/data/lake`` at the end of the
location, or else the configuration, as everywhere (``DREAMLAKE_LOCAL_PATH``, the configuration file, or
``./experiments``).
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qsl

from dreamlake.errors import InvalidInput, NotFound
from dreamlake.files import Files
from dreamlake.integrations.lazy import derived, need, unknown
from dreamlake.lake import Lake, open_lake
from dreamlake.model import below
from dreamlake.operations import addressing
from dreamlake.session import Session

__all__ = ["DreamLakeArtifactRepository", "location_of"]

DreamLakeArtifactRepository: type[Any]  # made by __getattr__


def __getattr__(name: str) -> Any:
    if name == "DreamLakeArtifactRepository":
        return derived(__name__, name, _Repository, need(_base, "mlflow"))
    raise unknown(__name__, name)


def _base() -> type:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    base: type = ArtifactRepository
    return base


def location_of(uri: str) -> tuple[addressing.Address, str | None]:
    """An artifact URI as an address and the folder of the lake (None: the configured one).

    Raises ``InvalidInput`` for a URI that names no session, or has another option than ``local_path``.
    """
    text, _, query = uri.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    local_path = options.pop("local_path", None)
    if options:
        raise InvalidInput(f"{uri!r} has the unknown option {min(options)!r}; there is local_path", path=uri)
    return addressing.parse(text), local_path


class _Repository:
    """The artifacts below one artifact URI.

    Args:
        artifact_uri: see the module.
        more: what MLflow passes on (tracking and registry URIs).
    """

    def __init__(self, artifact_uri: str, *more: Any, **options: Any) -> None:
        super().__init__(artifact_uri, *more, **options)  # type: ignore[call-arg]
        self._address, self._local_path = location_of(artifact_uri)

    # ---- writing -------------------------------------------------------------------------------------------------

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store a file; under a name that is taken, as the next version."""
        with self._session() as session:
            session.files.upload(local_file, path=self._path(artifact_path))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store a folder's tree, in one commit."""
        if not any(names for _, _, names in os.walk(local_dir)):
            return  # MLflow has nothing against empty folders, and there is nothing to store
        with self._session() as session:
            session.files.upload(os.path.abspath(local_dir), path=self._path(artifact_path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file or everything below a folder; ``dreamlake restore`` brings it back until ``gc`` lets it go."""
        files = self._files()
        path = self._path(artifact_path)
        if files is None:
            return
        with self._session() as session:
            if files.exists(path):
                session.files.delete(path)
            elif files.list(path=path):
                session.files.delete(path, recursive=True)

    # ---- reading -------------------------------------------------------------------------------------------------

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        """Files and folders directly inside a folder, as MLflow's ``FileInfo``; [] for a file or for nothing."""
        from mlflow.entities import FileInfo

        files = self._files()
        if files is None:
            return []
        top, folder = below(self._path(None)), below(self._path(path))
        found: dict[str, Any] = {}
        for record in files.list(path=folder):
            key = f"{record['path'].rstrip('/')}/{record['filename']}"
            name, slash, _ = key[len(folder) :].partition("/")
            relative = (folder + name)[len(top) :]
            found[relative] = FileInfo(relative, bool(slash), None if slash else record["sizeBytes"])
        return [found[relative] for relative in sorted(found)]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        files = self._files()
        if files is None:
            raise NotFound(f"there are no artifacts at {self._address.session}", path=remote_file_path)
        files.download(self._path(remote_file_path), local_path)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _path(self, inside: str | None) -> str:
        parts = f"{self._address.path}/{inside or ''}".split("/")
        return "/" + "/".join(part for part in parts if part not in ("", "."))

    def _session(self) -> Session:
        key = self._address.session
        return Session(key.name, key.workspace, local_path=self._local_path, capture=False)

    def _files(self) -> Files | None:
        """The files for reading, without creating anything; None while there is no such session."""
        try:
            lake: Lake = open_lake(self._local_path)
        except NotFound:
            return None
        key = lake.store.session(self._address.session.workspace, self._address.session.name)
        return Files(lake.store, key, lambda write: None) if lake.info(key).exists else None
