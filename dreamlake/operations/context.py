"""The lake as the operations see it: the two seams, the ports, and a few settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamlake.blobs import Blobs
from dreamlake.catalog import Catalog
from dreamlake.content.recent import RecentParts
from dreamlake.errors import InvalidInput
from dreamlake.model import DEFAULT_MAX_FILE_BYTES, SessionKey, session_key
from dreamlake.ports import Ports

if TYPE_CHECKING:
    from dreamlake.services.docs import Docs
    from dreamlake.services.objects import Objects

ENCODINGS = ("auto", "raw", "coded")
DEFAULT_ENCODING = "auto"


class Bucket(NamedTuple):
    """The database and the object store of a lake whose contents are in a bucket."""

    docs: Docs
    objects: Objects


@dataclass(frozen=True)
class Store:
    """Everything an operation may touch.

    Attributes:
        root: the lake's folder (materialized trees live in it), or None where there is none.
        where: what to call the lake in messages.
        bucket: where contents are objects: for what is done with them there, besides storing them.
        encoding: how uploads are stored unless they say: "auto" codes containers of tensors, "coded" every large file,
            "raw" nothing.
        recent: plain parts of the last uploads of this process.
        scratch: folder for small caches and scratch files of this machine, or None.
        namespace: whose sessions are meant when nothing else is said; "" in a folder.
    """

    ports: Ports
    catalog: Catalog
    blobs: Blobs
    root: str | None = None
    scratch: str | None = None
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES
    encoding: str = DEFAULT_ENCODING
    namespace: str = ""
    where: str = ""
    bucket: Bucket | None = None
    recent: RecentParts = field(default_factory=RecentParts, repr=False, compare=False)

    def session(self, workspace: str, name: str) -> SessionKey:
        """The session of that name in this namespace. Raises ``InvalidInput`` with the offending name."""
        return session_key(workspace, name, self.namespace)

    def sessions(self) -> list[SessionKey]:
        """The sessions of this namespace, dropped ones included, sorted. Those of all: ``catalog.sessions``."""
        return [key for key in self.catalog.sessions() if key.namespace == self.namespace]


def check_encoding(encoding: str | None, default: str | None) -> Any:
    """One of ``ENCODINGS``; for None the default. Raises ``InvalidInput``."""
    chosen = default if encoding is None else encoding
    if chosen is not None and chosen not in ENCODINGS:
        raise InvalidInput(f"encoding={chosen!r}; use one of {', '.join(ENCODINGS)}")
    return chosen
