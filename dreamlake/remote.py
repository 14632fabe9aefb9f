"""Opening and creating a remote lake: its database, the place of its blobs, and whether the two belong together.

The document ``meta/store`` says where the blobs are, and has the same store id as ``store.json`` beside them: a
database with the wrong blobs would lose everything to its next collection (R9). What a bucket must be able to do is
tried once for each endpoint (``capabilities``), and remembered in the document.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamlake import values
from dreamlake.capabilities import check_objects
from dreamlake.errors import AccessDenied, Conflict, InvalidInput, LakeError, NotFound, UnsupportedFormat
from dreamlake.folder_store import BLOBS_DIR, check_head, create_store, new_head, store_head
from dreamlake.journal.documents import INDEXES as JOURNAL_INDEXES
from dreamlake.location import RemoteAddress
from dreamlake.operations.object_files import INDEXES as PLACED_INDEXES
from dreamlake.ports import Ports, iso

if TYPE_CHECKING:
    from dreamlake.services.docs import Doc, Docs, Index
    from dreamlake.services.objects import Objects
    from dreamlake.services.s3_calling import S3Settings

__all__ = ["Attached", "attach", "cache_folder", "indexes"]

_META = {"_id": "store"}
_HEAD = "store.json"
_S3_FIELDS = ("bucket", "prefix", "endpoint", "region", "addressing")  # of an address, and no secret


class Clients(NamedTuple):
    """What makes the clients; tests put their own in the place of ``CLIENTS``."""

    docs: Callable[[str], Docs]
    objects: Callable[[S3Settings], Objects]


def _mongo(url: str) -> Docs:
    from dreamlake.services.mongo import MongoDocs

    return MongoDocs(url)


def _s3(settings: S3Settings) -> Objects:
    from dreamlake.services.s3 import S3Objects

    return S3Objects(settings)


CLIENTS = Clients(_mongo, _s3)


@dataclass(frozen=True)
class Attached:
    """An open remote. Blobs are in ``objects``, or (then that is None) in ``folder``."""

    docs: Docs
    objects: Objects | None
    folder: str | None
    store_id: str
    settings: dict[str, Any]

    def close(self) -> None:
        self.docs.close()
        if self.objects is not None:
            self.objects.close()


def attach(ports: Ports, address: RemoteAddress, *, create: bool = False) -> Attached:
    """Open a remote lake, or create it.

    Raises:
        NotFound: there is none, and not ``create``.
        InvalidInput: the address does not say where the blobs of a new lake are to be, or says another kind of place.
        UnsupportedFormat: a newer format; blobs of another lake; or a database or bucket that lacks what is needed.
        Unavailable, AccessDenied: the database or the bucket.
    """
    docs = CLIENTS.docs(address.mongodb)
    objects: Objects | None = None
    try:
        meta = find_meta(docs)
        if meta is None and not create:
            raise NotFound(
                f"no lake in {address.place}; it is created by the first Session or upload", path=str(address)
            )
        place = blobs_of(address, meta)
        objects = CLIENTS.objects(place) if not isinstance(place, str) else None
        if meta is None:
            meta = _create(ports, address, docs, objects, place)
        folder = f"{place}/{BLOBS_DIR}" if isinstance(place, str) else None
        attached = Attached(docs, objects, folder, str(meta["store_id"]), dict(meta.get("settings", {})))
        check_match(ports, attached, meta, place)
        check_indexes(docs)
        if objects is not None:
            _check_once(ports, docs, objects, meta, place)
        return attached
    except BaseException:
        with contextlib.suppress(Exception):
            docs.close()
        with contextlib.suppress(Exception):
            if objects is not None:
                objects.close()
        raise


def find_meta(docs: Docs) -> Doc | None:
    """What the database says of its lake; None when there is none. Raises ``UnsupportedFormat``."""
    meta = next(docs.find("meta", _META, limit=1), None)
    if meta is not None:
        check_head(meta, "the database")
    return meta


def indexes() -> tuple[Index, ...]:
    """All indexes that a remote lake needs."""
    from dreamlake.blobs.documents import INDEXES as COPY_INDEXES
    from dreamlake.catalog.documents import INDEXES as CATALOG_INDEXES

    return (*CATALOG_INDEXES, *COPY_INDEXES, *JOURNAL_INDEXES, *PLACED_INDEXES)


def check_indexes(docs: Docs) -> None:
    """Raises ``UnsupportedFormat`` when an index is missing that makes two writers agree."""
    missing = docs.missing([index for index in indexes() if index.unique])
    if missing:
        names = ", ".join(f"{index.collection}.{index.name}" for index in missing)
        raise UnsupportedFormat(
            f"the database lacks the unique index {names}, without which two writers could both succeed; run "
            "`dreamlake remote test --create-indexes`"
        )


def blobs_of(address: RemoteAddress, meta: Doc | None) -> S3Settings | str:
    """Where the blobs are: what the address says, else what the database says."""
    said = (meta or {}).get("blobs")
    if meta is None:
        if address.blobs is None:
            raise InvalidInput(
                f"there is no lake in {address.place} yet, and the address does not say where its blobs are to be: add "
                'a bucket (s3://bucket/prefix?mongodb=..., or "s3": {...}) or "folder"'
            )
        return address.blobs
    if not isinstance(said, dict) or said.get("kind") not in ("s3", "folder"):
        raise UnsupportedFormat(f"{address.place} keeps its blobs in a place that this release does not know")
    if address.blobs is None:
        if said["kind"] == "folder":
            return str(said["path"])
        from dreamlake.services.s3_calling import S3Settings

        return S3Settings(**{name: said[name] for name in _S3_FIELDS if said.get(name) is not None})
    if isinstance(address.blobs, str) != (said["kind"] == "folder"):
        raise InvalidInput(
            f"the lake in {address.place} keeps its blobs in {_told(said)}, not in {_shown(address.blobs)}"
        )
    return address.blobs


# ---- creating ----------------------------------------------------------------------------------------------------


def _create(ports: Ports, address: RemoteAddress, docs: Docs, objects: Objects | None, place: S3Settings | str) -> Doc:
    """Make an empty lake; of two creators one wins, and the other takes its lake."""
    docs.ensure(indexes())
    head = new_head(ports)
    blobs: dict[str, Any] = {"kind": "folder", "path": place}
    if objects is not None and not isinstance(place, str):
        blobs = {"kind": "s3", **{name: getattr(place, name) for name in _S3_FIELDS}}
        check_objects(objects, ports.new_id(), _shown(place))
        head["checked"] = {_endpoint(place): iso(ports.now())}
    if docs.insert("meta", [{**_META, **head, "blobs": blobs, "settings": {}}]):
        return find_meta(docs) or head  # somebody else made it meanwhile
    try:
        if objects is not None:
            _write_head(objects, head, _shown(place))
        else:
            create_store(ports, str(place), BLOBS_DIR, _head_of(head))
            _match_folder(ports, str(place), head)
    except LakeError:
        with contextlib.suppress(LakeError):
            docs.delete("meta", {**_META, "store_id": head["store_id"]})
        raise
    return find_meta(docs) or head


def _head_of(meta: Doc) -> dict[str, Any]:
    return {name: meta[name] for name in ("format", "store_id", "created_at")}


def _write_head(objects: Objects, meta: Doc, where: str) -> None:
    data = values.encode(_head_of(meta), indent=2) + b"\n"
    try:
        objects.put(_HEAD, data, sha256=hashlib.sha256(data).hexdigest())
    except Conflict:
        found = store_head(objects.read(_HEAD), where)["store_id"]
        raise _foreign(where, found, meta["store_id"]) from None


# ---- do they belong together? --------------------------------------------------------------------------------------


def check_match(ports: Ports, attached: Attached, meta: Doc, place: S3Settings | str) -> None:
    """Raises ``UnsupportedFormat`` unless the blobs belong to the database, ``NotFound`` when they are not there."""
    if attached.objects is None:
        _match_folder(ports, str(place), meta)
    else:
        _match_objects(attached.docs, attached.objects, meta, _shown(place))


def _match_objects(docs: Docs, objects: Objects, meta: Doc, where: str) -> None:
    try:
        found = store_head(objects.read(_HEAD), where)["store_id"]
    except NotFound:
        if any(docs.find("copies", {}, limit=1)):
            raise UnsupportedFormat(
                f"{where} holds no {_HEAD} although the lake has blobs: it is another bucket or prefix than the one "
                "they are in. Correct the address; `dreamlake doctor` shows what the database says",
                path=where,
            ) from None
        _write_head(objects, meta, where)  # whoever created the lake died before this
        return
    if found != meta["store_id"]:
        raise _foreign(where, found, meta["store_id"])


def _match_folder(ports: Ports, folder: str, meta: Doc) -> None:
    base = f"{folder}/{BLOBS_DIR}"
    try:
        found = store_head(ports.fs.read(f"{base}/{_HEAD}"), base)["store_id"]
    except FileNotFoundError:
        raise NotFound(
            f"the blobs of this lake are in {folder}, which is not there: mount it, or give the right folder",
            path=folder,
        ) from None
    if found != meta["store_id"]:
        raise _foreign(folder, found, meta["store_id"])


def _foreign(where: str, found: str, wanted: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"{where} holds the blobs of another lake ({found}, not {wanted}): use the database that belongs to it, or an "
        "empty bucket, prefix or folder",
        path=where,
    )


def _check_once(ports: Ports, docs: Docs, objects: Objects, meta: Doc, place: S3Settings | str) -> None:
    """Try what the bucket must be able to do, unless somebody has done so at this endpoint."""
    endpoint = _endpoint(place)
    if endpoint in meta.get("checked", {}):
        return
    try:
        check_objects(objects, ports.new_id(), _shown(place))
    except AccessDenied:  # who may only read does no harm; who writes will be told
        return
    with contextlib.suppress(LakeError):  # a note that saves work
        docs.update("meta", _META, {"$set": {f"checked.{endpoint}": iso(ports.now())}})


def _endpoint(place: S3Settings | str) -> str:
    """A name for the endpoint that may be a field of a document."""
    text = place if isinstance(place, str) else f"{place.endpoint}\n{place.bucket}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shown(place: S3Settings | str) -> str:
    return place if isinstance(place, str) else place.shown


def _told(said: dict[str, Any]) -> str:
    return str(said["path"]) if said["kind"] == "folder" else f"s3://{said['bucket']}/{said.get('prefix') or ''}"


def cache_folder(ports: Ports, store_id: str) -> str | None:
    """The folder of this machine for caches of a remote lake, which cost time only when lost; None if there is none."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    base = f"{os.path.abspath(home)}/dreamlake/{store_id}"
    try:
        for name in ("cache", "placed", "tmp", "views"):
            ports.fs.make_dir(f"{base}/{name}")
    except OSError:
        return None
    return base
