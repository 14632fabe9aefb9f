"""Real processes on one lake, killed with SIGKILL all the time: uploads, deletes, restores, collections, optimizations.

    python stress.py FOLDER SECONDS [--naive]

Every worker notes what was acknowledged in an append-only file, and before it deletes something, that it may be gone.
At the end everything acknowledged must be there and readable, and one collection must leave exactly what is referenced.
``DREAMLAKE_STRESS_REMOTE``, a mapping as JSON, makes it a remote lake; FOLDER then holds only the notes.
``--naive`` breaks the protocol (look before claiming, unlink after one scan), to show that this would notice. Prints
the judgement as one JSON object; exit status 1 when anything is wrong.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from typing import Any

import dreamlake.operations.collect as collecting
import dreamlake.operations.commit as committing
from dreamlake.content import reading
from dreamlake.errors import ClaimRevoked, LakeError, NotFound
from dreamlake.lake import Lake, open_lake
from dreamlake.model import session_key
from dreamlake.operations import tree
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.optimize import optimize
from dreamlake.operations.upload import Attributes, upload_file
from dreamlake.operations.verify import verify
from dreamlake.ports import OsFs, Ports

REMOTE = json.loads(os.environ.get("DREAMLAKE_STRESS_REMOTE", "null"))
NAMESPACE = "stress" if REMOTE else ""
SESSIONS = [session_key("ws", name, NAMESPACE) for name in "ab"]
HOT_S = 0.4  # every worker uploads the same few contents for that long: nearly all are hits on what others delete
PAUSE_S = 0.4  # longest time between two kills: a collection must have a chance to finish
ROLES = [("plain", 0), ("plain", 1), ("plain", 2), ("coded", 3), ("gc", 4), ("gc", 5), ("optimize", 6)]


class QuickFs(OsFs):
    """Without waiting for the disk: SIGKILL takes nothing back that the kernel has."""

    def fsync(self, path: str) -> None:
        os.stat(path)

    def fsync_dir(self, path: str) -> None:
        os.stat(path)

    def sync(self, path: str) -> None:
        os.stat(path)


def lake(root: str) -> Lake:
    return open_lake(REMOTE or root, create=True, namespace=NAMESPACE or None, ports=Ports(fs=QuickFs()))


def opened(root: str) -> Store:
    return lake(root).store


def series(folder: str) -> list[str]:
    """Files of numbers that are coded as differences of each other."""
    import numpy as np

    rng = np.random.default_rng(1)
    numbers, files = rng.standard_normal(270_000).astype("f4"), []
    for i in range(4):
        numbers = numbers + rng.standard_normal(270_000).astype("f4") * np.float32(1e-4)
        buffer = io.BytesIO()
        np.save(buffer, numbers)
        files.append(os.path.join(folder, f"{i}.npy"))
        with open(files[-1], "wb") as file:
            file.write(buffer.getvalue())
    return files


class Worker:
    def __init__(self, root: str, number: int) -> None:
        self.rng = random.Random(os.urandom(8))
        self.store, self.session = opened(root), SESSIONS[number % 2]
        self.acks = os.open(f"{root}.acks", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.files = [f"{root}.files/{i}.npy" for i in range(4)]

    def note(self, what: str, path: str, digest: str = "") -> None:
        os.write(self.acks, json.dumps([what, str(self.session), path, digest]).encode() + b"\n")

    def plain(self, path: str) -> None:
        content = b"content %d %d " % (int(time.time() / HOT_S), self.rng.randrange(3))
        self.upload(path + ".bin", content * 1000, "raw")

    def coded(self, path: str) -> None:
        self.upload(path + ".npy", self.rng.choice(self.files), self.rng.choice(["auto", "auto", "raw"]))

    def upload(self, path: str, source: bytes | str, encoding: str) -> None:
        data = io.BytesIO(source) if isinstance(source, bytes) else source
        version = upload_file(self.store, self.session, data, path, Attributes(), encoding=encoding)
        self.note("put", path, version.digest)
        self.read(path, version.digest, version.size_bytes)
        if self.rng.random() < 0.99:  # only who made a path deletes it: then it is clear what must be there
            self.note("deleting", path)
            tree.delete(self.store, self.session, [version])
            if self.rng.random() < 0.3:
                try:
                    back = tree.restore(self.store, self.session, path)
                except NotFound:
                    return  # collected meanwhile
                self.note("restored", path, back.digest)
                self.read(path, back.digest, back.size_bytes)

    def read(self, path: str, digest: str, size: int) -> None:
        try:
            reading.read_all(self.store.blobs, digest, size)
        except LakeError as error:
            self.note("vanished", path, str(error)[:200])

    def gc(self, path: str) -> None:
        for claim in list(self.store.catalog.pending()):
            if self.rng.random() < 0.02:
                self.store.catalog.revoke(claim.token)  # wrongly, of the living, too
        collecting.collect(self.store, now=True, keep_deleted_s=0, force=True)

    def optimize(self, path: str) -> None:
        time.sleep(0.2)
        optimize(self.store)

    def run(self, role: str) -> None:
        i = 0
        while True:
            i += 1
            try:
                getattr(self, role)(f"/{os.getpid()}/{i}")
            except (ClaimRevoked, NotFound):
                continue


def campaign(root: str, seconds: float, naive: bool) -> tuple[int, int]:
    """Run all roles and kill one process after the other. Returns kills, and processes that ended by themselves."""
    children: dict[int, tuple[str, int]] = {}

    def spawn(role: tuple[str, int]) -> None:
        pid = os.fork()
        if pid:
            children[pid] = role
            return
        try:
            Worker(root, role[1]).run(role[0])
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(3)

    roles = [role for role in ROLES if not naive or role[0] in ("plain", "gc")]
    for role in roles:
        spawn(role)
    kills = failed = 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            time.sleep(random.random() * PAUSE_S)
            pid = random.choice(list(children))
            role = children.pop(pid)
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            failed += os.WIFEXITED(status)
            kills += 1
            if naive and b'"vanished"' in _acks(root):
                break
            spawn(role)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            failed += os.WIFEXITED(status)
    return kills, failed


def _acks(root: str) -> bytes:
    with open(f"{root}.acks", "rb") as file:
        return file.read()


def judge(root: str) -> dict[str, Any]:
    store = opened(root)
    wanted: dict[tuple[str, str], str] = {}
    found: Counter[str] = Counter()
    for line in _acks(root).splitlines():
        what, session, path, digest = json.loads(line)
        found[what] += 1
        if what in ("put", "restored"):
            wanted[session, path] = digest
        elif what == "deleting":
            wanted.pop((session, path), None)
    lost = []
    for key in SESSIONS:
        live = {v.key: v for v in store.catalog.view(key).live()}
        for (session, path), digest in wanted.items():
            if session == str(key) and (path not in live or live[path].digest != digest):
                lost.append(f"{session}:{path}")
    before = verify(store, deep=True)
    collecting.collect(store, now=True, keep_deleted_s=0, force=True)
    collecting.collect(store, now=True, keep_deleted_s=0, force=True)
    after = verify(opened(root), deep=True)
    unreadable = []
    for key in SESSIONS:
        for version in store.catalog.view(key).versions():
            digest = hashlib.sha256()
            try:
                for piece in reading.pieces(store.blobs, version.digest, version.size_bytes):
                    digest.update(piece)
            except LakeError as error:
                unreadable.append(f"{key}:{version.key}: {error}")
    return {
        "records": sum(store.catalog.view(key).n for key in SESSIONS),
        "acknowledged": found["put"],
        "restored": found["restored"],
        "vanished": found["vanished"],
        "lost": lost,
        "damage": [f.text() for f in [*before.findings, *after.findings] if f.severity == "damage"],
        "unreadable": unreadable,
        "garbage": [f.text() for f in after.findings if f.kind in ("orphan", "trash", "scratch", "quarantine")],
        "claims": sum(1 for _ in store.catalog.pending()),
    }


def main(root: str, seconds: float, naive: bool) -> int:
    os.makedirs(f"{root}.files")
    series(f"{root}.files")
    made = lake(root)
    for key in SESSIONS:
        commit(made.store, key, [{"op": "session"}])
    made.close()  # who forks has no connections
    open(f"{root}.acks", "wb").close()
    if naive:
        committing.CLAIM_FIRST = collecting.CONDEMN = False
    kills, failed = campaign(root, seconds, naive)
    result = {"naive": naive, "seconds": seconds, "kills": kills, "ended by themselves": failed, **judge(root)}
    print(json.dumps({k: v[:5] if isinstance(v, list) else v for k, v in result.items()}, indent=1))
    wrong = ("vanished", "lost", "damage", "unreadable", "garbage", "claims", "ended by themselves")
    return int(any(result[name] for name in wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), "--naive" in sys.argv))
