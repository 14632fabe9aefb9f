"""The older spelling of file operations: ``session.file(...)`` with a verb at its end. Inside, all is ``Files``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from dreamlake.errors import InvalidInput
from dreamlake.files import KEEP, Files, Record


class FileOperation:
    """What ``session.file(...)`` returns; one of ``save``, ``list``, ``download``, ``update``, ``delete`` ends it."""

    def __init__(
        self,
        files: Files,
        *,
        file_path: str | os.PathLike[str] | None = None,
        prefix: str | None = None,
        path: str | os.PathLike[str] | None = None,
        description: Any = KEEP,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        file_id: str | None = None,
        dest_path: str | os.PathLike[str] | None = None,
        filename: str | None = None,
    ) -> None:
        if prefix is not None and path is not None:
            raise InvalidInput("give either prefix= or path=, they mean the same")
        self._files = files
        self._file_path, self._file_id, self._dest_path, self._filename = file_path, file_id, dest_path, filename
        self._prefix = prefix if prefix is not None else path
        self._description, self._tags, self._metadata = description, tags, metadata

    def save(self) -> Record:
        """Upload ``file_path`` into ``prefix``."""
        if self._file_path is None:
            raise InvalidInput("save() needs session.file(file_path=...)")
        return self._files.upload(
            self._file_path,
            path=self._prefix if self._prefix is not None else "/",
            description=None if self._description is KEEP else self._description,
            tags=self._tags,
            metadata=self._metadata,
            filename=self._filename,
        )

    def list(self) -> list[Record]:
        """Files below ``prefix`` with any of ``tags``."""
        return self._files.list(path=self._prefix, tags=self._tags)

    def download(self) -> str:
        """Download ``file_id`` to ``dest_path``."""
        return self._files.download(self._id("download"), self._dest_path)

    def update(self) -> Record:
        """Change description, tags or metadata of ``file_id``; what was not given is kept."""
        return self._files.update(
            self._id("update"),
            description=self._description,
            tags=KEEP if self._tags is None else self._tags,
            metadata=KEEP if self._metadata is None else self._metadata,
        )

    def delete(self) -> Record:
        """Delete ``file_id``."""
        return self._files.delete(self._id("delete"))

    def _id(self, verb: str) -> str:
        if self._file_id is None:
            raise InvalidInput(f"{verb}() needs session.file(file_id=...)")
        return self._file_id
