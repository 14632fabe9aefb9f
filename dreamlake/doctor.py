"""``doctor``: is the place of a lake fit for use? Each thing that is looked at gives one sentence, and its cure.

Changes nothing, except that it writes and removes files, documents and objects of its own where a lake is written to.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamlake import config, remote
from dreamlake.capabilities import try_clock, try_objects
from dreamlake.errors import AccessDenied, LakeError, NotFound, Unavailable
from dreamlake.folder_store import BLOBS_DIR, STORE_DIR, read_settings, store_head
from dreamlake.location import RemoteAddress, location_of
from dreamlake.ports import Ports
from dreamlake.remote import Attached, blobs_of, cache_folder, check_match, find_meta, indexes

if TYPE_CHECKING:
    from dreamlake.services.docs import Doc, Docs
    from dreamlake.services.s3_calling import S3Settings

__all__ = ["FAILED", "OK", "WARNING", "Check", "examine", "mend_indexes"]

OK, WARNING, FAILED = "ok", "warning", "failed"
SMALL_BYTES = 1 << 30  # free space to warn at
OLD_UPLOAD_S = 7 * 86_400.0  # a multipart upload of that age belongs to nobody any more


class Check(NamedTuple):
    """What was looked at, its state (``OK``, ``WARNING``, ``FAILED``), a sentence about it, and the cure or ""."""

    name: str
    state: str
    message: str
    cure: str = ""

    def record(self) -> dict[str, str]:
        return dict(self._asdict())


def examine(location: Any = None, *, namespace: str | None = None, ports: Ports | None = None) -> Iterator[Check]:
    """Look at one thing after another; what rests on something that failed is left out.

    Args:
        location: as of ``open_lake``.
    """
    ports = ports or Ports()
    try:
        place = location_of(location, namespace=namespace)
        config.max_file_bytes()
    except LakeError as error:
        yield Check("configuration", FAILED, str(error))
        return
    file = config.config_file()
    source = f"settings of {file}" if os.path.exists(file) else f"no configuration file ({file})"
    yield Check("configuration", OK, f"{_named(place)}; {source}")
    yield from _spool()
    yield from _remote(ports, place) if isinstance(place, RemoteAddress) else _folder(ports, place)


def _spool() -> Iterator[Check]:
    """A warning for each folder with sessions that could not be delivered yet."""
    from dreamlake.spool import waiting

    for one in waiting():
        names = ", ".join(one.sessions[:3]) + (", ..." if len(one.sessions) > 3 else "")
        message = f"{len(one.sessions):,} sessions for {one.remote} wait in {one.folder} ({names})"
        yield Check("spool", WARNING, message, one.command)


def mend_indexes(address: RemoteAddress) -> int:
    """Create the indexes that a remote lake lacks; returns how many. Raises ``AccessDenied``, ``Unavailable``."""
    docs = remote.CLIENTS.docs(address.mongodb)
    try:
        missing = docs.missing(indexes())
        docs.ensure(missing)
        return len(missing)
    finally:
        docs.close()


def _named(place: str | RemoteAddress) -> str:
    if isinstance(place, str):
        return f"a lake in the folder {place}"
    profile = f"profile {place.profile}, " if place.profile else ""
    return f"a remote lake: {profile}database {place.place}, namespace {place.namespace}"


def _attempt(name: str, action: Callable[[], Check], cure: str = "") -> Check:
    """The check, or what the error of making it says."""
    try:
        return action()
    except (AccessDenied, Unavailable) as error:
        return Check(name, FAILED, str(error), cure)
    except LakeError as error:
        return Check(name, FAILED, str(error))
    except OSError as error:
        return Check(name, FAILED, f"{error.filename or name}: {error.strerror or error}", cure)


# ---- folders -----------------------------------------------------------------------------------------------------


def _folder(ports: Ports, root: str) -> Iterator[Check]:
    base = f"{root}/{STORE_DIR}"

    def store() -> Check:
        try:
            head = store_head(ports.fs.read(f"{base}/store.json"), base)
        except FileNotFoundError:
            return Check("store", WARNING, f"there is no lake in {root} yet", "the first upload or Session creates one")
        read_settings(ports, base)
        return Check("store", OK, f"store {head['store_id']}, format {head['format']}")

    found = _attempt("store", store)
    yield found
    if found.state == OK:
        yield _attempt(
            "permissions", lambda: _writable(ports, f"{base}/tmp"), "give this user the right to write there"
        )
        yield _attempt("file system", lambda: _links(ports, base), "keep the lake on a file system with hard links")
    yield _attempt("free space", lambda: _space(root))


def _writable(ports: Ports, folder: str) -> Check:
    path = f"{folder}/{ports.scratch_name('doctor')}"
    ports.fs.write(path, b"doctor")
    try:
        ports.fs.fsync(path)
    finally:
        ports.fs.unlink(path)
    return Check("permissions", OK, f"{folder} can be written to")


def _links(ports: Ports, base: str) -> Check:
    """Commits are hard links."""
    path = f"{base}/tmp/{ports.scratch_name('doctor')}"
    ports.fs.write(path, b"doctor")
    try:
        ports.fs.link(path, f"{path}2")
        ports.fs.unlink(f"{path}2")
    finally:
        ports.fs.unlink(path)
    if ports.is_local(base):
        return Check("file system", OK, "local, with hard links")
    return Check("file system", OK, "a network file system, with hard links; collections wait for other hosts' caches")


def _space(folder: str) -> Check:
    here = os.path.abspath(folder)
    while not os.path.exists(here):
        here = os.path.dirname(here)
    facts = os.statvfs(here)
    free = facts.f_bavail * facts.f_frsize
    text = f"{free / 1e9:,.1f} GB free in {here}"
    if free < SMALL_BYTES:
        return Check("free space", WARNING, text, "make room: `dreamlake gc`, or a larger disk")
    return Check("free space", OK, text)


# ---- remotes -----------------------------------------------------------------------------------------------------


def _remote(ports: Ports, address: RemoteAddress) -> Iterator[Check]:
    docs = remote.CLIENTS.docs(address.mongodb)
    objects = None
    try:
        meta: list[Doc] = []
        yield (reached := _attempt("database", lambda: _database(docs, address, meta)))
        if reached.state == FAILED:
            return
        yield _attempt("database rights", lambda: _database_rights(ports, docs), "grant readWrite on this database")
        if meta:
            yield _attempt("cache", lambda: _cache(ports, str(meta[0]["store_id"])))
            yield _attempt("indexes", lambda: _indexes(docs), "grant readWrite (it includes listIndexes)")
        place: list[S3Settings | str] = []
        yield (known := _attempt("blobs", lambda: _blobs(address, meta, place)))
        if known.state == FAILED:
            return
        if not isinstance(place[0], str):
            objects = remote.CLIENTS.objects(place[0])
        folder = f"{place[0]}/{BLOBS_DIR}" if isinstance(place[0], str) else None
        attached = Attached(docs, objects, folder, "", {})
        if meta:
            yield _attempt("store ids", lambda: _store_ids(ports, attached, meta[0], place[0]))
        yield from _blob_place(ports, attached, place[0])
    finally:
        docs.close()
        if objects is not None:
            objects.close()


def _database(docs: Docs, address: RemoteAddress, meta: list[Doc]) -> Check:
    began = time.monotonic()
    found = find_meta(docs)
    took = f"{address.place} answers in {(time.monotonic() - began) * 1000:,.0f} ms"
    if found is None:
        return Check("database", WARNING, f"{took}; it holds no lake yet", "the first upload or Session creates one")
    meta.append(found)
    return Check("database", OK, f"{took}; store {found['store_id']}, format {found['format']}")


def _database_rights(ports: Ports, docs: Docs) -> Check:
    """What every commit needs: an insert that is refused when it is there, and a compare-and-set."""
    name, token = "database rights", ports.new_id()
    mine = {"_id": token, "state": "new"}
    try:
        refused = [*docs.insert("checks", [mine]), *docs.insert("checks", [mine])]
        changed = [docs.update("checks", mine, {"$set": {"state": "old"}}) for _ in range(2)]
    finally:
        with contextlib.suppress(LakeError):
            docs.delete("checks", {"_id": token})
    if refused != [token] or changed != [True, False]:
        return Check(
            name, FAILED, "the database does not keep ids unique or changes atomic", "use a MongoDB replica set"
        )
    return Check(name, OK, "can be written to; ids are unique, changes are atomic")


def _cache(ports: Ports, store_id: str) -> Check:
    folder = cache_folder(ports, store_id)
    if folder is None:
        return Check(
            "cache", WARNING, "no folder for caches can be made", "set XDG_CACHE_HOME to one that may be written"
        )
    return Check("cache", OK, f"caches are in {folder}")


def _indexes(docs: Docs) -> Check:
    missing = docs.missing(indexes())
    if missing:
        names = ", ".join(f"{index.collection}.{index.name}" for index in missing)
        return Check("indexes", FAILED, f"missing: {names}", "run `dreamlake remote test --create-indexes`")
    return Check("indexes", OK, "all there")


def _blobs(address: RemoteAddress, meta: list[Doc], place: list[S3Settings | str]) -> Check:
    place.append(blobs_of(address, meta[0] if meta else None))
    where = place[0] if isinstance(place[0], str) else place[0].shown
    return Check("blobs", OK, f"in {where}")


def _store_ids(ports: Ports, attached: Attached, meta: Doc, place: S3Settings | str) -> Check:
    check_match(ports, attached, meta, place)
    return Check("store ids", OK, "database and blobs belong together")


def _blob_place(ports: Ports, attached: Attached, place: S3Settings | str) -> Iterator[Check]:
    objects = attached.objects
    if objects is None:
        folder = attached.folder or str(place)
        if os.path.isdir(folder):
            yield _attempt(
                "permissions", lambda: _writable(ports, f"{folder}/tmp"), "give this user the right to write"
            )
        yield _attempt("free space", lambda: _space(folder))
        return
    try:
        for tried in try_objects(objects, ports.new_id()):
            yield Check(tried.name, OK if tried.ok else FAILED, tried.problem or "works", tried.cure)
        clock = try_clock(objects, ports.new_id())
        yield Check("clock", OK if clock.ok else FAILED, clock.problem or "agrees with the store's", clock.cure)
    except NotFound as error:
        yield Check("bucket", FAILED, str(error), "create the bucket, or correct its name, region or endpoint")
        return
    except LakeError as error:
        cure = "grant GetObject, PutObject, DeleteObject, ListBucket and the multipart actions on it"
        yield Check("bucket", FAILED, str(error), cure if isinstance(error, AccessDenied) else "")
        return
    yield _attempt("unfinished uploads", lambda: _uploads(attached))


def _uploads(attached: Attached) -> Check:
    assert attached.objects is not None
    old = sum(time.time() - upload.started > OLD_UPLOAD_S for upload in attached.objects.uploads())
    if old:
        cure = "`dreamlake gc` removes them; a lifecycle rule AbortIncompleteMultipartUpload does, too"
        return Check("unfinished uploads", WARNING, f"{old:,} are older than a week", cure)
    return Check("unfinished uploads", OK, "none that is old")
