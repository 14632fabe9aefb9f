"""The documented folders of a lake in a folder: ``<root>/<workspace>/<session>/`` with ``session.json``.

Owns which session a folder belongs to. The truth about a session is its log in the store; ``session.json`` is a view of
it for people and other tools.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from dreamlake import values
from dreamlake.catalog import Catalog
from dreamlake.errors import InvalidInput, UnsupportedFormat
from dreamlake.folder_store import STORE_DIR, store_head, sweep_unborn, write_settings
from dreamlake.inside import check_inside
from dreamlake.journal import Journal
from dreamlake.journal.folder import FolderJournal
from dreamlake.model import MAX_SEGMENT_BYTES, SessionInfo, SessionKey, same_name, session_document, session_key
from dreamlake.operations.context import Store
from dreamlake.ports import OsFs, Ports

if TYPE_CHECKING:
    from dreamlake.operations.findings import Finding

_PLACE_TRIES = 5  # of writing session.json beside others who do the same


class FolderHome:
    """``Home`` in the folder ``root``.

    Args:
        open_again: opens the store from a root, in another process.
    """

    def __init__(self, ports: Ports, root: str, catalog: Catalog, open_again: Callable[[str], Store]) -> None:
        self._ports, self._catalog, self._open_again = ports, catalog, open_again
        self.root = self.where = root

    def journal(self, key: SessionKey) -> Journal:
        return FolderJournal(self._ports, self.session_folder(key), root=self.root)

    def session_folder(self, key: SessionKey) -> str:
        """The documented folder of a session.

        On a file system that folds case or Unicode forms the plain name may belong to another session; then the
        session whose name came second lives in ``<name>~<8 hexadecimal digits of its identity>``. Whose it is says
        ``session.json``; while that is missing or damaged, the oldest session with such a name.
        """
        plain = f"{self.root}/{key.workspace}/{key.name}"
        owner = self._folder_owner(plain) or self._oldest_in(plain, key)
        if owner is None or owner == key:
            return plain
        short = key.name.encode()[: MAX_SEGMENT_BYTES - 9].decode(errors="ignore")
        return f"{self.root}/{key.workspace}/{short}~{key.sid[:8]}"

    def prepare(self, key: SessionKey, *, new: bool) -> Callable[[], None]:
        folder = self.session_folder(key)
        check_inside(self._ports.fs, self.root, f"{folder}/session.json")
        made = new and self._make_folder(folder)

        def undo() -> None:
            if made:
                with contextlib.suppress(OSError):
                    self._ports.fs.remove_dir(folder)

        return undo

    def show(self, info: SessionInfo) -> None:
        """Write ``session.json`` if it is missing or differs; atomic. It also says whose the folder is: first come."""
        fs, ports = self._ports.fs, self._ports
        data = values.encode(session_document(info), indent=2) + b"\n"
        for _ in range(_PLACE_TRIES):
            folder = self.session_folder(info.key)
            path, missing = f"{folder}/session.json", False
            check_inside(fs, self.root, path)
            try:
                if fs.read(path) == data:
                    return
            except FileNotFoundError:
                self._make_folder(folder)
                missing = True
            except (NotADirectoryError, IsADirectoryError) as error:
                raise _in_the_way(path if isinstance(error, IsADirectoryError) else folder) from None
            scratch = f"{folder}/.{ports.scratch_name('session')}"
            try:
                fs.write(scratch, data)
                fs.fsync(scratch)
                if missing:
                    fs.rename_new(scratch, path)
                else:
                    fs.rename(scratch, path)
            except BaseException as error:
                with contextlib.suppress(OSError):
                    fs.unlink(scratch)
                if missing and isinstance(error, FileExistsError):
                    continue  # another process was quicker; perhaps for a session that this disk takes for the same
                raise
            fs.fsync_dir(folder)
            return
        raise _in_the_way(path)  # a link to nowhere

    def configure(self, settings: dict[str, Any]) -> None:
        write_settings(self._ports, self._base, settings)

    def check_identity(self, store_id: str) -> None:
        found = store_head(self._ports.fs.read(f"{self._base}/store.json"), self._base)["store_id"]
        if found != store_id:
            message = f"{self._base} is another lake now ({found}, not {store_id}); open it again"
            raise UnsupportedFormat(message, path=self._base)

    def sweep(self) -> None:
        sweep_unborn(self._ports, self.root)

    def check_sessions(self, existing: Iterable[SessionKey]) -> list[Finding]:
        from dreamlake.operations.sessions_health import check_folders

        return check_folders(self._ports.fs, self.root, existing, self.session_folder)

    def check_session(self, key: SessionKey) -> list[Finding]:
        from dreamlake.operations.sessions_health import check_session

        return check_session(self._ports.fs, self.root, key, self.session_folder)

    def opener(self) -> Callable[[], Store] | None:
        return partial(self._open_again, self.root) if type(self._ports.fs) is OsFs else None

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def _base(self) -> str:
        return f"{self.root}/{STORE_DIR}"

    def _make_folder(self, folder: str) -> bool:
        """The folder of a session. True if this call made it."""
        try:
            return self._ports.fs.make_dir(folder)
        except (FileExistsError, NotADirectoryError):
            raise _in_the_way(folder) from None

    def _folder_owner(self, folder: str) -> SessionKey | None:
        try:
            raw = values.decode(self._ports.fs.read(f"{folder}/session.json"))
            return session_key(raw["workspace"], raw["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _oldest_in(self, folder: str, key: SessionKey) -> SessionKey | None:
        """Of the sessions whose plain folder is this very one on this file system, the oldest."""
        fs, spelling = self._ports.fs, same_name(str(key))
        try:
            inode = fs.lstat(folder).inode
            names = [k for k in self._catalog.sessions() if same_name(str(k)) == spelling]
            here = [k for k in names if fs.lstat(f"{self.root}/{k.workspace}/{k.name}").inode == inode]
        except OSError:  # there is no folder yet, or none for one of them: this file system tells them apart
            return None
        return min(here, key=lambda k: (self._catalog.view(k).info.created_at or "", k), default=None)


def _in_the_way(path: str) -> InvalidInput:
    return InvalidInput(f"{path} is in the way: a session needs this name; move it, or use another name", path=path)
