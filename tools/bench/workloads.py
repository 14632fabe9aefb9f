"""The list of benchmarks by name, in the order of the speed table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.bench import large, many, remote, starting
from tools.bench.harness import Result, Room

BENCHMARKS: dict[str, Callable[[Room], Result]] = {
    "large-upload": large.large_upload,
    "checkpoints": large.checkpoints_upload,
    "again": large.upload_again,
    "folder": many.folder_upload,
    "folder-again": many.folder_again,
    "materialize-large": large.materialize_large,
    "materialize-link": large.materialize_link,
    "materialize-folder": many.materialize_folder,
    "coded-upload": large.coded_upload,
    "coded-read": large.coded_read,
    "coded-newest": large.coded_newest,
    "list": many.listing,
    "find": many.find,
    "look-up": many.look_up,
    "collect": many.collect,
    "memory-raw": large.memory_raw,
    "memory-coded": large.memory_coded,
    "import": starting.importing,
    "version": starting.version,
    "track": starting.track,
    "remote-upload": remote.remote_upload,
    "remote-again": remote.remote_again,
    "remote-folder": remote.remote_folder,
    "remote-download": remote.remote_download,
}


def describe(function: Callable[[Room], Any]) -> str:
    """First line of a benchmark's docstring."""
    return (function.__doc__ or "").strip().splitlines()[0]
