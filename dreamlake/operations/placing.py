"""Put verified content under a name on the user's disk: scratch beside the target, then one rename.

Nothing partial ever stands under a final name, and nothing is replaced that is not what the plan saw there.
"""

from __future__ import annotations

import contextlib
import errno
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dreamlake.blobs import Blobs
from dreamlake.content import frame, reading
from dreamlake.content.chunking import MIN_FILE
from dreamlake.content.recent import RecentParts
from dreamlake.errors import Corrupt, NotFound, UnsupportedFormat
from dreamlake.operations.context import Store
from dreamlake.operations.placed import Mark, mark_of
from dreamlake.operations.survey import SCRATCH_PREFIX, content_digest, fold, unchanged
from dreamlake.ports import Fs, Ports, Stat

Progress = Callable[[int], None]
Opener = Callable[[], Store]

BATCH_FILES = 64
BATCH_BYTES = 16 << 20
_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class Job(NamedTuple):
    """One file to place. ``expect``: what stands there now and may be replaced; None: the name must be free.

    ``seq`` is the order of uploads: a checkpoint reads fastest after the one that it is a difference to.
    """

    key: str
    path: str
    digest: str
    size: int
    stamp_ns: int | None
    expect: Stat | None
    seq: int = 0


class Outcome(NamedTuple):
    """What became of a job: a mark, or a problem's code and reason. ``there``: another process had placed it."""

    job: Job
    mark: Mark | None
    code: str = ""
    reason: str = ""
    there: bool = False


@dataclass
class Placer:
    """Places files below one root. Can be sent to another process (without ``progress``, ``stop`` and ``recent``).

    Attributes:
        opener: opens the store where it is sent to; without one, ``blobs`` itself is sent.
        link: auto, reflink, hardlink, symlink or copy.
        root: target root; symbolic links inside it to a store inside it are relative, so that a lake can be moved.
    """

    blobs: Blobs
    ports: Ports
    link: str
    root: str
    opener: Opener | None = None
    can_clone: bool = True  # turned off by the first refusal: then auto copies without trying each time
    progress: Progress | None = field(default=None, repr=False)
    stop: threading.Event | None = field(default=None, repr=False)
    recent: RecentParts = field(default_factory=RecentParts, repr=False)

    def __getstate__(self) -> dict[str, object]:
        blobs = self.blobs if self.opener is None else None
        return {**self.__dict__, "progress": None, "stop": None, "recent": None, "blobs": blobs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.recent = RecentParts()
        if self.opener is not None:
            self.blobs = _opened(self.opener)

    def place_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Place files one after another; a problem of one does not keep the others from their place."""
        prefix = SCRATCH_PREFIX + self.ports.scratch_name("place")
        outcomes = []
        for number, job in enumerate(jobs):
            if self.stop is not None and self.stop.is_set():
                break
            outcomes.append(self.place(job, f"{prefix}{number}"))
        return outcomes

    def place(self, job: Job, scratch_name: str) -> Outcome:
        """Place one file. Errors of the disk itself (full, read-only) are raised."""
        fs = self.ports.fs
        scratch = f"{job.path.rpartition('/')[0]}/{scratch_name}"
        try:
            kind = self._make(job, scratch)
            self._rename(job, scratch)
            return Outcome(job, mark_of(fs.lstat(job.path), job.digest, kind, self.link))
        except FileExistsError:
            _drop(fs, scratch)
            return self._taken(job)
        except _Changed:
            _drop(fs, scratch)
            return Outcome(job, None, "changed", f"{job.path} was changed meanwhile; it was left alone")
        except NotFound:
            _drop(fs, scratch)
            return Outcome(job, None, "gone", f"the content of {job.key} is no longer stored")
        except (Corrupt, UnsupportedFormat) as error:
            _drop(fs, scratch)
            return Outcome(job, None, "damaged", str(error))
        except FileNotFoundError:
            _drop(fs, scratch)
            return Outcome(job, None, "changed", f"{job.path}: its folder was removed meanwhile")
        except OSError as error:
            _drop(fs, scratch)
            if error.errno in _NO_SUCH_NAME:
                return Outcome(job, None, "name", f"{job.path}: no name for this file system ({error.strerror})")
            raise
        except BaseException:
            _drop(fs, scratch)
            raise

    def raw_file(self, digest: str, size: int) -> str | None:
        """A local file that holds exactly the plain content, or None: then only a copy will do, if there is any.

        Raises ``Corrupt`` for one whose tamper mark is broken and whose bytes are wrong.
        """
        path = self.blobs.file(digest)
        if path is None:
            return None
        try:
            facts = self.ports.fs.stat(path)
            if facts.size != size:
                return None
            with self.ports.fs.open(path) as stream:
                if frame.is_framed(stream.read(frame.PREFIX_SIZE)):
                    return None
            if not facts.sealed and content_digest(self.ports.fs, path) != digest:
                raise Corrupt(f"the stored copy of {digest} was changed from outside: `dreamlake verify`", path=path)
        except FileNotFoundError:
            return None  # moved by a collector this very moment: a copy finds it wherever it is
        return path

    def _make(self, job: Job, scratch: str) -> str:
        """Create the scratch file; returns how (copy, reflink, hardlink, symlink)."""
        fs = self.ports.fs
        if self.link in ("hardlink", "symlink", "reflink") or (self.link == "auto" and self.can_clone):
            source = self.raw_file(job.digest, job.size)
            if source is not None and self._share(job, source, scratch):
                if self.progress:
                    self.progress(job.size)
                return "reflink" if self.link == "auto" else self.link
        writer = fs.create(scratch, early=False)
        try:
            write = self._stoppable(writer.write)
            reading.copy_to(self.blobs, job.digest, job.size, write, self.progress, self.recent)
            if job.stamp_ns is not None:
                writer.stamp(job.stamp_ns)
        finally:
            writer.close()
        return "copy"

    def _share(self, job: Job, source: str, scratch: str) -> bool:
        fs = self.ports.fs
        if self.link == "symlink":
            fs.symlink(link_text(self.root, source, job.path), scratch)
        elif self.link == "hardlink":
            try:
                fs.link(source, scratch)
            except OSError as error:
                if error.errno in _CANNOT_LINK:
                    return False
                raise
        else:
            if not fs.clone(source, scratch):
                self.can_clone = False
                return False
            if job.stamp_ns is not None:
                fs.stamp(scratch, job.stamp_ns)
        return True

    def _rename(self, job: Job, scratch: str) -> None:
        fs = self.ports.fs
        if job.expect is None:
            fs.rename_new(scratch, job.path)
            return
        try:
            now = fs.lstat(job.path)
        except FileNotFoundError:
            fs.rename_new(scratch, job.path)
            return
        if not unchanged(job.expect, now):
            raise _Changed
        fs.rename(scratch, job.path)
        if self.link == "hardlink":  # rename(2) does nothing when both names are one file already
            _drop(fs, scratch)

    def _taken(self, job: Job) -> Outcome:
        """The name was free when the plan was made. Another run of materialize may have placed the very same file."""
        fs = self.ports.fs
        try:
            parent, _, name = job.path.rpartition("/")
            if name not in fs.list(parent):
                return Outcome(job, None, "same-name", f"this file system takes {job.path} for another file's name")
            facts = fs.lstat(job.path)
            same_kind = stat.S_ISREG(facts.mode) and facts.size == job.size
            if same_kind and content_digest(fs, job.path) == job.digest:
                return Outcome(job, mark_of(facts, job.digest, "copy", self.link), there=True)
        except OSError:
            pass
        return Outcome(job, None, "changed", f"{job.path} appeared meanwhile; it was left alone")

    def _stoppable(self, write: Callable[[memoryview], None]) -> Callable[[memoryview], None]:
        stop = self.stop
        if stop is None:
            return write

        def write_unless_stopped(piece: memoryview) -> None:
            if stop.is_set():
                raise Stopped
            write(piece)

        return write_unless_stopped


_last: list[tuple[object, Blobs]] = []  # of this process: batch after batch is of one store


def _opened(opener: Opener) -> Blobs:
    """The blobs of a store, opened once. Openers are partial functions, equal when they call the same alike."""
    key = (getattr(opener, "func", opener), getattr(opener, "args", ()))
    if not _last or _last[0][0] != key:
        _last[:] = [(key, opener().blobs)]
    return _last[0][1]


class Stopped(BaseException):
    """The run was interrupted; raised in its threads."""


class _Changed(Exception):
    """What stands there is not what the plan saw."""


def batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs in portions that are worth handing to another thread; a file that may be coded is one of its own."""
    batch: list[Job] = []
    size = 0
    for job in jobs:
        if batch and (len(batch) >= BATCH_FILES or size + job.size > BATCH_BYTES or job.size >= MIN_FILE):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += job.size
    if batch:
        yield batch


def twins_apart(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Jobs, and those whose name some file system may take for that of an earlier one."""
    seen: set[str] = set()
    first: list[Job] = []
    late: list[Job] = []
    for job in jobs:
        form = fold(job.path)
        (late if form in seen else first).append(job)
        seen.add(form)
    return first, late


def link_text(root: str, source: str, path: str) -> str:
    """What a symbolic link at ``path`` to a stored copy says: relative while the store lies below the target root."""
    if not source.startswith(root.rstrip("/") + "/"):
        return source
    depth = path[len(root.rstrip("/")) + 1 :].count("/")
    return "../" * depth + source[len(root.rstrip("/")) + 1 :]


def _drop(fs: Fs, scratch: str) -> None:
    with contextlib.suppress(OSError):
        fs.unlink(scratch)
