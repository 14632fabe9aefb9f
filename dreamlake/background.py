"""Uploads in the background: one queue a session, bounded, in order; nothing is lost and no error is swallowed.

Owns: the queue and its one thread (which ends when the queue is empty), the futures, and the drain at the end of the
interpreter. What a job does is not its business. A forked child starts without the parent's queue: the uploads in it
are the parent's, which goes on with them.
"""

from __future__ import annotations

import os
import tempfile
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, BinaryIO, NamedTuple, cast

from dreamlake.content.staging import SourceStat
from dreamlake.errors import InvalidInput, StateError, UploadsFailed

__all__ = ["MAX_QUEUED_BYTES", "MAX_QUEUED_FILES", "Background", "Held", "PendingUpload", "hold"]

_IN_MEMORY = 64 << 20  # a stream above this size waits in an anonymous temporary file
_PIECE = 1 << 20
MAX_QUEUED_FILES = 256  # uploads that may wait; the next call waits for room
MAX_QUEUED_BYTES = 2 << 30  # their bytes; one that is larger than this waits until it is alone

Record = dict[str, Any]


class PendingUpload(Future[Record]):
    """The future of an upload: ``result()`` waits for the record, or raises what the upload raised.

    An error that nobody asked for with ``result()`` or ``exception()`` is raised by ``session.flush()``, by
    ``session.close()``, or at the end of the interpreter, whatever comes first.

    Attributes:
        name: what is uploaded, for messages.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.seen = False  # somebody was told of its error
        self._pid, self._settled = os.getpid(), False
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"PendingUpload({self.name!r}, {'done' if self._settled else 'under way'})"

    def result(self, timeout: float | None = None) -> Record:
        """The record; waits for it. ``timeout`` is in seconds (``TimeoutError``)."""
        self._check_here()
        try:
            return super().result(timeout)
        except BaseException as error:
            self.seen = self.seen or error is self._error
            raise

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error, or None; waits like ``result``."""
        self._check_here()
        error = super().exception(timeout)
        self.seen = self.seen or error is not None
        return error

    def settle(self, record: Record | None, error: BaseException | None) -> None:
        """Called once by the queue."""
        self._settled, self._error = True, error
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(record if record is not None else {})

    @property
    def unseen_error(self) -> BaseException | None:
        """How it failed, unless somebody was told."""
        return None if self.seen else self._error

    def _check_here(self) -> None:
        if not self._settled and self._pid != os.getpid():
            raise StateError(f"the upload of {self.name} belongs to the parent process, which goes on with it")


class Held(NamedTuple):
    """A source that waits for its turn: ``take`` gives it when the turn comes, ``drop`` frees what it holds."""

    take: Callable[[], str | bytes | BinaryIO]
    size_bytes: int
    drop: Callable[[], None]


def hold(source: str | bytes | BinaryIO) -> Held:
    """Keep what an upload was given until its turn comes.

    Bytes are kept, a stream is read to its end at once. A file stays where it is: if its size, time of change or
    inode is another one when its turn comes, ``take`` raises ``InvalidInput``, so that nothing is stored under
    attributes that were meant for other content.
    """
    if isinstance(source, bytes):
        return Held(lambda: source, len(source), _nothing)
    if isinstance(source, str):
        path, facts = source, _identity(source)
        return Held(lambda: _unchanged(path, facts), facts[0], _nothing)
    buffer = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - ``drop`` closes it
    try:
        while piece := source.read(_PIECE):
            buffer.write(piece)
        size = buffer.tell()
        buffer.seek(0)
    except BaseException:
        buffer.close()
        raise
    return Held(lambda: cast(BinaryIO, buffer), size, buffer.close)


def _nothing() -> None:
    return None


def _identity(path: str) -> tuple[int, int, int]:
    size, mtime_ns, _, inode = SourceStat.of(path)
    return size, mtime_ns, inode


def _unchanged(path: str, facts: tuple[int, int, int]) -> str:
    try:
        same = _identity(path) == facts
    except FileNotFoundError:
        raise InvalidInput(
            f"{path} was removed before its upload in the background had read it; nothing was stored. "
            "Wait for the future first, or upload it with wait=True",
            path=path,
        ) from None
    if not same:
        raise InvalidInput(
            f"{path} was changed before its upload in the background had read it; nothing was stored. "
            "Write every version to a file of its own, or upload it with wait=True",
            path=path,
        )
    return path


class _Job(NamedTuple):
    future: PendingUpload
    work: Callable[[], Record]
    drop: Callable[[], None]
    size_bytes: int
    files: int


class Background:
    """The queue of one session.

    Args:
        max_files, max_bytes: how much may wait before ``submit`` waits for room.
    """

    def __init__(self, max_files: int = MAX_QUEUED_FILES, max_bytes: int = MAX_QUEUED_BYTES) -> None:
        self._max_files, self._max_bytes = max_files, max_bytes
        self._reset()
        _QUEUES.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[_Job] = deque()
        self._running: _Job | None = None
        self._thread: threading.Thread | None = None
        self._files = self._bytes = 0
        self._ended: list[PendingUpload] = []  # that failed, and nobody was told so far

    def submit(
        self,
        name: str,
        work: Callable[[], Record],
        *,
        size_bytes: int = 0,
        files: int = 1,
        drop: Callable[[], None] = _nothing,
    ) -> PendingUpload:
        """Queue one upload; waits while the queue is full.

        Args:
            work: does it, in the queue's thread, after everything that was submitted before.
            size_bytes, files: what it adds to the queue.
            drop: frees what it holds, also when it was cancelled.
        """
        job = _Job(PendingUpload(name), work, drop, size_bytes, files)
        with self._changed:
            while self._full(job):
                self._changed.wait()
            self._waiting.append(job)
            self._files += files
            self._bytes += size_bytes
            _ACTIVE.add(self)
            if self._thread is None:
                # not a daemon: the interpreter waits for it even where _drain_all is not called in time
                self._thread = threading.Thread(target=self._run, name="dreamlake-background")
                try:
                    self._thread.start()
                except BaseException:
                    self._thread = None
                    self._waiting.pop()
                    self._took(job)
                    raise
        return job.future

    def _full(self, job: _Job) -> bool:
        if self._files == 0:
            return False
        return self._files + job.files > self._max_files or self._bytes + job.size_bytes > self._max_bytes

    def _took(self, job: _Job) -> None:
        self._files -= job.files
        self._bytes -= job.size_bytes
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    if not any(future.unseen_error for future in self._ended):
                        _ACTIVE.discard(self)
                    return
                job = self._running = self._waiting.popleft()
            self._do(job)
            with self._changed:
                self._running = None
                self._ended = [future for future in (*self._ended, job.future) if future.unseen_error]
                self._took(job)
            del job  # its bytes need not wait for the next upload

    def _do(self, job: _Job) -> None:
        try:
            if not job.future.set_running_or_notify_cancel():
                return
            try:
                made = job.work()
            except BaseException as error:
                job.future.settle(None, error)
            else:
                job.future.settle(made, None)
        finally:
            job.drop()

    def flush(self) -> None:
        """Wait until everything submitted so far is done.

        Raises:
            UploadsFailed: with every error that nobody was told of by ``result()`` or ``exception()``; once.
        """
        with self._changed:
            last = self._waiting[-1] if self._waiting else self._running
            while last is not None and (last is self._running or last in self._waiting):
                self._changed.wait()
            failed = [(future.name, error) for future in self._ended if (error := future.unseen_error)]
            self._ended = []
            if not self._waiting and self._running is None:
                _ACTIVE.discard(self)
        if failed:
            texts = "; ".join(f"{name}: {error}" for name, error in failed)
            many = f"{len(failed)} background uploads failed: " if len(failed) > 1 else "a background upload failed: "
            raise UploadsFailed(many + texts, [error for _, error in failed]) from failed[0][1]

    @property
    def pending(self) -> int:
        """Uploads that are not done."""
        with self._changed:
            return len(self._waiting) + (self._running is not None)


# ---- the end of the process, and forks -----------------------------------------------------------------------------

_QUEUES: weakref.WeakSet[Background] = weakref.WeakSet()
_ACTIVE: set[Background] = set()  # with uploads, or errors that nobody saw: kept although their sessions may be gone


def _drain_all() -> None:
    """At the end of the interpreter: finish every queue, and print what nobody saw.

    Printed, not raised: an exception here would keep the interpreter from waiting for the threads of others, and in a
    process of ``multiprocessing`` nobody would see it.
    """
    while _ACTIVE:
        queue = next(iter(_ACTIVE))
        try:
            queue.flush()
        except UploadsFailed as failure:
            traceback.print_exception(failure)
        _ACTIVE.discard(queue)


def _forked() -> None:
    for queue in list(_QUEUES):
        queue._reset()
    _ACTIVE.clear()


def _at_exit() -> None:
    """Have ``_drain_all`` run while pools of threads can still be used: before those of ``concurrent.futures`` end."""
    import atexit
    import concurrent.futures.thread  # noqa: F401 - what registered later runs earlier

    register: Callable[[Callable[[], None]], Any] = getattr(threading, "_register_atexit", atexit.register)
    register(_drain_all)


_at_exit()
os.register_at_fork(after_in_child=_forked)
