"""The plain side: short loops with hashlib and os, as one would write them without a store, in fresh processes.

What is best changes with the machine, so the one-pass loop has four variants and the fastest counts.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.bench.harness import serve

PIECE_BYTES = 4 << 20
EARLY_BYTES = 32 << 20
SYNC_FILE_RANGE_WRITE = 2
# (pieces hashed in a second thread, write-back started early)
LOOPS = {
    "one thread": (False, False),
    "one thread, early write-back": (False, True),
    "second thread hashes": (True, False),
    "second thread hashes, early write-back": (True, True),
}


def _starter() -> Callable[[int, int, int], None]:
    """A function that starts the write-back of a range of a file; does nothing where the system has no such call."""
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is None:
        return lambda fd, offset, length: None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return lambda fd, offset, length: call(fd, offset, length, SYNC_FILE_RANGE_WRITE)


def one_pass(source: str, target: str, *, second_thread: bool, early: bool, durable: bool = True) -> str:
    """Copy while hashing; returns the SHA-256. `durable`: one fsync at the end, then a rename into place."""
    start_writing, digest = _starter(), hashlib.sha256()
    free: queue.Queue[bytearray] = queue.Queue()
    full: queue.Queue[memoryview | None] = queue.Queue()
    for _ in range(4):
        free.put(bytearray(PIECE_BYTES))
    staged = target + ".part"

    def hash_pieces() -> None:
        while (piece := full.get()) is not None:
            digest.update(piece)
            buffer = piece.obj
            assert isinstance(buffer, bytearray)
            free.put(buffer)

    thread = threading.Thread(target=hash_pieces)
    if second_thread:
        thread.start()
    with open(source, "rb", buffering=0) as reader, open(staged, "wb", buffering=0) as writer:
        done = started = 0
        while True:
            buffer = free.get()
            count = reader.readinto(buffer)
            if not count:
                break
            piece = memoryview(buffer)[:count]
            writer.write(piece)
            done += count
            if second_thread:
                full.put(piece)
            else:
                digest.update(piece)
                free.put(buffer)
            if early and done - started >= EARLY_BYTES:
                start_writing(writer.fileno(), started, done - started)
                started = done
        full.put(None)
        if durable:
            os.fsync(writer.fileno())
    if second_thread:
        thread.join()
    os.rename(staged, target)
    return digest.hexdigest()


def _copies(request: dict[str, Any]) -> Callable[[], None]:
    second_thread, early = LOOPS[request["loop"]]
    dest, durable = request["dest"], request["durable"]

    def work() -> None:
        for number, source in enumerate(request["sources"]):
            one_pass(source, f"{dest}/{number}", second_thread=second_thread, early=early, durable=durable)

    return work


def _hash(request: dict[str, Any]) -> Callable[[], None]:
    def work() -> None:
        digest, buffer = hashlib.sha256(), bytearray(PIECE_BYTES)
        with open(request["source"], "rb", buffering=0) as reader:
            while count := reader.readinto(buffer):
                digest.update(memoryview(buffer)[:count])

    return work


def _copy_tree(request: dict[str, Any]) -> Callable[[], None]:
    def work() -> None:
        subprocess.run(["cp", "-r", request["source"], request["dest"]], check=True)
        if request["durable"]:
            subprocess.run(["sync", "-f", request["dest"]], check=True)

    return work


def _walk(request: dict[str, Any]) -> Callable[[], None]:
    def work() -> None:
        for parent, _, names in os.walk(request["source"]):
            for name in names:
                os.stat(f"{parent}/{name}")

    return work


def _read_json(request: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        with open(request["file"], encoding="utf-8") as stream:
            return {"count": len(json.load(stream))}

    return work


def _remove(request: dict[str, Any]) -> Callable[[], None]:
    def work() -> None:
        names = Path(request["list"]).read_bytes()
        subprocess.run(["xargs", "-0", "rm", "-f"], input=names, cwd=request["folder"], check=True)
        subprocess.run(["sync", "-f", request["folder"]], check=True)

    return work


def _append_lines(request: dict[str, Any]) -> Callable[[], None]:
    def work() -> None:
        with open(request["file"], "a", encoding="utf-8") as stream:
            for step in range(request["points"]):
                stream.write(json.dumps({"step": step, "loss": 1 / (step + 1)}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    return work


VERBS = {
    "copies": _copies,
    "hash": _hash,
    "copy-tree": _copy_tree,
    "walk": _walk,
    "read-json": _read_json,
    "remove": _remove,
    "append-lines": _append_lines,
}

if __name__ == "__main__":
    serve(VERBS)
