"""The lake as the operations see it: the two seams, the ports, and a few settings."""

from __future__ import annotations

from dataclasses import dataclass

from dreamlake.blobs import Blobs
from dreamlake.catalog import Catalog
from dreamlake.model import DEFAULT_MAX_FILE_BYTES
from dreamlake.ports import Ports


@dataclass(frozen=True)
class Store:
    """Everything an operation may touch.

    Attributes:
        root: the lake's folder (materialized trees live in it), or None where there is none.
        scratch: folder for small caches and scratch files of this machine, or None.
    """

    ports: Ports
    catalog: Catalog
    blobs: Blobs
    root: str | None = None
    scratch: str | None = None
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES
