"""``Home`` of a remote lake: everything in its database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from dreamlake.errors import UnsupportedFormat
from dreamlake.folder_store import BLOBS_DIR, sweep_unborn
from dreamlake.journal import Journal
from dreamlake.journal.documents import DocumentJournal
from dreamlake.location import RemoteAddress
from dreamlake.model import SessionInfo, SessionKey
from dreamlake.operations.context import Store
from dreamlake.ports import OsFs, Ports
from dreamlake.remote import Attached, blobs_of, check_match, find_meta

if TYPE_CHECKING:
    from dreamlake.operations.findings import Finding


_DEAD_S = 86_400.0  # a materialized file that has been sent for so long never will be


class RemoteHome:
    """``Home`` in the database of ``attached``.

    Args:
        open_again: opens the store from an address, in another process.
    """

    root = None

    def __init__(
        self, ports: Ports, address: RemoteAddress, attached: Attached, open_again: Callable[[RemoteAddress], Store]
    ) -> None:
        self._ports, self.address, self.attached, self._open_again = ports, address, attached, open_again
        self.where = str(address)

    def journal(self, key: SessionKey) -> Journal:
        return DocumentJournal(self._ports, self.attached.docs, key.sid)

    def session_folder(self, key: SessionKey) -> None:
        return None

    def prepare(self, key: SessionKey, *, new: bool) -> Callable[[], None]:
        return lambda: None  # names of any spelling can be told apart in a database

    def show(self, info: SessionInfo) -> None:
        """Nothing to do: the records say it, and the catalog names the session."""

    def configure(self, settings: dict[str, Any]) -> None:
        change = {f"settings.{name}": value for name, value in settings.items()}
        self.attached.docs.update("meta", {"_id": "store"}, {"$set": change})

    def check_identity(self, store_id: str) -> None:
        meta = find_meta(self.attached.docs)
        if meta is None or meta["store_id"] != store_id:
            found = "none" if meta is None else meta["store_id"]
            raise UnsupportedFormat(f"{self.where} is another lake now ({found}, not {store_id}); open it again")
        check_match(self._ports, self.attached, meta, blobs_of(self.address, meta))

    def sweep(self) -> None:
        if self.attached.folder is not None:
            sweep_unborn(self._ports, self.attached.folder.rpartition("/")[0], BLOBS_DIR)
        if self.attached.objects is not None:
            for upload in self.attached.objects.uploads("files/"):  # those of blobs: ``blobs.sweeping``
                if self._ports.now().timestamp() - upload.started > _DEAD_S:
                    self.attached.objects.abort(upload.key, upload.id)

    def check_sessions(self, existing: Iterable[SessionKey]) -> list[Finding]:
        return []  # there is no folder that somebody could move

    def check_session(self, key: SessionKey) -> list[Finding]:
        return []

    def opener(self) -> Callable[[], Store] | None:
        return partial(self._open_again, self.address) if type(self._ports.fs) is OsFs else None

    def close(self) -> None:
        self.attached.close()
