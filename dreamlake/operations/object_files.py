"""Files of sessions as objects in the lake's bucket: ``files/<namespace>/<workspace>/<session>/<file id>/<filename>``.

Content that is stored as it is, is copied by the store itself; coded content is sent. An id names one version, so an
object never has to change; what was placed is remembered in the database (collection ``placed``: target, digest, etag),
and written down before the object is: so a second run finds everything in order, one that was cut off goes on, and
``delete`` removes only what materialize itself has made and nobody has replaced since. While content is read, a claim
keeps it from collections, as in ``materialize``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dreamlake.content import frame, reading
from dreamlake.errors import Corrupt, InvalidInput, LakeError, NotFound, UnsupportedFormat
from dreamlake.model import SessionKey, Version
from dreamlake.operations.context import Bucket, Store
from dreamlake.operations.materialize import Materialized, reading_claim
from dreamlake.operations.placed import Placed
from dreamlake.operations.placing import Job, Progress
from dreamlake.operations.planned import Options, Plan, TreePlan
from dreamlake.operations.survey import Problem, State
from dreamlake.operations.wanted import versions_at
from dreamlake.ports import Stat, iso
from dreamlake.services.docs import Doc, Index
from dreamlake.services.objects import ObjectInfo

__all__ = ["INDEXES", "ObjectPlan", "execute", "link", "plan", "target_of"]

INDEXES = (Index("placed", (("sid", 1),)),)
MAX_KEY_BYTES = 1024  # of an object's key: a limit of S3; the lake's own prefix comes on top
MAX_LINK_S = 7 * 86_400  # that a link may be valid: a limit of S3's signatures
_WORKERS = 8
_READABLE = ("live", "condemned")


@dataclass
class ObjectTree(TreePlan):
    """The plan for one session; keys are relative to ``base``, the session's own prefix."""

    versions: dict[str, Version] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)  # of obsolete objects, as they are now


@dataclass
class ObjectPlan(Plan):
    """What ``execute`` would do in the bucket."""


def target_of(session: SessionKey, version: Version) -> str:
    """The documented key of a version, below ``files/``."""
    return f"{_base(session)}{version.id}/{version.key.rpartition('/')[2]}"


def _base(session: SessionKey) -> str:
    return f"{session.namespace}/{session.workspace}/{session.name}/"


# ---- planning ----------------------------------------------------------------------------------------------------


def plan(store: Store, sessions: Sequence[SessionKey], options: Options, *, extras: bool = False) -> ObjectPlan:
    """Compare what the records say with what is in the bucket.

    Raises ``InvalidInput`` for a lake without a bucket, or an option that has no meaning there.
    """
    bucket = _bucket_of(store)
    if options.link != "auto":
        raise InvalidInput(f"link={options.link!r}: objects in a bucket are copies")
    result = ObjectPlan(f"{store.where}: files/", options)
    selects = options.selects()
    for session in sessions:
        versions = [v for v in versions_at(store, session, options.at) if selects(v.key)]
        placed = {doc["_id"]: doc for doc in bucket.docs.find("placed", {"sid": session.sid})}
        there = {info.key: info for info in bucket.objects.list(_base(session), files=True)}
        if versions or placed or (extras and there):
            tree = ObjectTree(session, _base(session), Placed(store.ports, None, "", session))
            _judge_all(tree, versions, placed, there, options)
            _find_obsolete(tree, placed, there, selects, options)
            if extras:
                known = {target_of(session, version) for version in versions} | placed.keys()
                tree.extra = [key[len(tree.base) :] for key in sorted(there.keys() - known)]
            result.trees.append(tree)
    return result


def _judge_all(
    tree: ObjectTree,
    versions: Sequence[Version],
    placed: dict[str, Doc],
    there: dict[str, ObjectInfo],
    options: Options,
) -> None:
    for version in versions:
        target = target_of(tree.session, version)
        key, info, mark = target[len(tree.base) :], there.get(target), placed.get(target)
        tree.versions[key] = version
        if len(target.encode()) > MAX_KEY_BYTES:
            reason = f"{target[:60]}...: the key has over {MAX_KEY_BYTES:,} bytes"
            tree.conflicts.append(Problem("name", target, reason, tree.session, key))
            continue
        state = _state(info, mark, version)
        if state is State.SAME:
            tree.unchanged += 1
        elif state is State.EDITED and not options.force:
            reason = f"{target} was not put there by materialize, or was replaced since; overwrite it with force"
            tree.conflicts.append(Problem("edited", target, reason, tree.session, key))
        else:
            job = Job(key, target, version.digest, version.size_bytes, None, None)
            tree.jobs.append((state, job))


def _state(info: ObjectInfo | None, mark: Doc | None, version: Version) -> State:
    if info is None:
        return State.ABSENT
    if mark is None:
        return State.EDITED
    if mark.get("etag") is None:  # whoever began to place it has not finished
        return State.STALE
    return State.SAME if (mark["etag"], version.size_bytes) == (info.etag, info.size) else State.EDITED


def _find_obsolete(
    tree: ObjectTree,
    placed: dict[str, Doc],
    there: dict[str, ObjectInfo],
    selects: Callable[[str], bool],
    options: Options,
) -> None:
    for target, mark in placed.items():
        key, info = target[len(tree.base) :], there.get(target)
        if key in tree.versions or not selects(mark["path"]):
            continue
        if info is None:
            tree.forgotten.append(key)
        elif mark.get("etag") in (None, info.etag):
            tree.obsolete.append((key, Stat(info.size, 0, 0, 0, 0, 0, 0)))
            tree.etags[key] = info.etag
        elif options.delete:
            reason = f"{target} was replaced since it was placed; it was not removed"
            tree.conflicts.append(Problem("edited", target, reason, tree.session, key))


def _bucket_of(store: Store) -> Bucket:
    if store.bucket is None:
        raise InvalidInput("this lake keeps its contents in a folder, not in a bucket; use to=... or --to DIR")
    return store.bucket


# ---- doing -------------------------------------------------------------------------------------------------------


def execute(
    store: Store, todo: ObjectPlan, *, workers: int | None = None, progress: Progress | None = None
) -> Materialized:
    """Do what a plan says. Raises ``Unavailable``, ``AccessDenied``; what was placed until then stays, and is known."""
    bucket = _bucket_of(store)
    result = Materialized(todo.root, unchanged=sum(t.unchanged for t in todo.trees), conflicts=list(todo.conflicts))
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(workers or _WORKERS, thread_name_prefix="dreamlake-place"))
        for tree in todo.trees:
            assert isinstance(tree, ObjectTree)
            if todo.options.delete:
                result.removed += _remove(bucket, tree)
            else:
                result.obsolete += len(tree.obsolete)
            _forget(bucket, [tree.base + key for key in tree.forgotten])
            with reading_claim(store, tree.session, {job.digest for _, job in tree.jobs}):
                jobs = [(store, tree.session, tree.versions[job.key], job.path) for _, job in tree.jobs]
                for (_, job), done in zip(tree.jobs, pool.map(_place_job, jobs), strict=True):
                    _take(result, tree, job, done, progress)
    return result


def _take(result: Materialized, tree: ObjectTree, job: Job, done: str | LakeError, progress: Progress | None) -> None:
    if isinstance(done, str):
        result.placed += 1
        result.bytes += job.size
        result.links[done] = result.links.get(done, 0) + 1
        if progress is not None:
            progress(job.size)
        return
    code = "gone" if isinstance(done, NotFound) else "damaged"
    result.missing.append(Problem(code, job.path, str(done), tree.session, job.key))


def _place_job(job: tuple[Store, SessionKey, Version, str]) -> str | LakeError:
    try:
        return place(*job)
    except (NotFound, Corrupt, UnsupportedFormat) as error:  # of this content; others go on
        return error


def place(store: Store, session: SessionKey, version: Version, target: str) -> str:
    """Make the object of one version; returns "server" when the store copied it by itself, else "sent".

    Its content must be kept by a claim. Raises ``NotFound`` or ``Corrupt`` when it cannot be read.
    """
    bucket = _bucket_of(store)
    facts = {"sid": session.sid, "path": version.key, "digest": version.digest, "at": iso(store.ports.now())}
    bucket.docs.update("placed", {"_id": target}, {"$set": facts, "$unset": {"etag": ""}}, upsert=True)
    source = _whole_object(bucket, version)
    made, how = None, "server"
    if source is not None:
        with contextlib.suppress(NotFound):  # a collection took that copy this moment: another form is there
            made = bucket.objects.copy(source, target, content_type=version.content_type)
    if made is None:
        how = "sent"
        with reading.open_plain(store.blobs, version.digest, version.size_bytes) as stream:
            made = bucket.objects.put_file(target, stream, content_type=version.content_type)
    if made.size != version.size_bytes:
        raise Corrupt(f"{target} has {made.size:,} bytes instead of {version.size_bytes:,}", path=target)
    bucket.docs.update("placed", {"_id": target}, {"$set": {"etag": made.etag}})
    return how


def _whole_object(bucket: Bucket, version: Version) -> str | None:
    """The key of an object that holds exactly the plain content, or None."""
    where = {"key": version.digest, "state": {"$in": list(_READABLE)}}
    for doc in bucket.docs.find("copies", where, fields=["size", "head", "distrusted"]):
        plain = doc.get("size") == version.size_bytes and not frame.is_framed(doc.get("head") or b"")
        if plain and not doc.get("distrusted"):
            return str(doc["_id"])
    return None


def _remove(bucket: Bucket, tree: ObjectTree) -> int:
    targets = [tree.base + key for key, _ in tree.obsolete]
    bucket.objects.delete_files(targets)
    _forget(bucket, targets)
    return len(targets)


def _forget(bucket: Bucket, targets: Sequence[str]) -> None:
    for start in range(0, len(targets), 500):
        bucket.docs.delete("placed", {"_id": {"$in": list(targets[start : start + 500])}})


# ---- links -------------------------------------------------------------------------------------------------------


def link(store: Store, session: SessionKey, version: Version, expires_s: int) -> str:
    """A URL that reads the plain content of a version without credentials, for so many seconds.

    Content that is stored as it is, is linked to directly. For coded content its documented object is made first, if it
    is not there; it stays until ``materialize`` with ``delete`` finds it superfluous.

    Raises:
        InvalidInput: a lake without a bucket, or more than a week.  NotFound, Corrupt: the content is not readable.
    """
    bucket = _bucket_of(store)
    if not 1 <= expires_s <= MAX_LINK_S:
        raise InvalidInput(f"a link is valid for 1 to {MAX_LINK_S:,} seconds (a week), not {expires_s:,}")
    filename = version.key.rpartition("/")[2]
    source = _whole_object(bucket, version)
    if source is not None and bucket.objects.head(source) is not None:
        return bucket.objects.presign(source, expires_s=expires_s, filename=filename)
    target = target_of(session, version)
    mark = next(bucket.docs.find("placed", {"_id": target}, limit=1), None)
    there = next((info for info in bucket.objects.list(target, files=True) if info.key == target), None)
    if _state(there, mark, version) is not State.SAME:
        with reading_claim(store, session, {version.digest}):
            place(store, session, version, target)
    return bucket.objects.presign(target, expires_s=expires_s, filename=filename, file=True)
