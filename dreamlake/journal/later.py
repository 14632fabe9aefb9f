"""Write-back a little later: fsync of appended files about a second after the append, without a standing thread.

Owns the promise that a power cut loses at most about a second of appends. The first mark starts a daemon thread that
sleeps, syncs what is marked and ends; ``close`` waits for it. An fsync that fails is never swallowed: the kernel may
have dropped the data, and would report the next fsync as a success, so the error is kept until somebody is told.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Callable

from dreamlake.ports import Fs

BATCH = 32  # from so many files and names on, one barrier for the file system is cheaper than an fsync each


class Later:
    """Marked files below ``root`` become durable ``delay_s`` seconds after the first mark, or at ``flush``.

    A file's name, and the names of all folders up to and including ``root``, become durable with it.
    """

    def __init__(self, fs: Fs, root: str, delay_s: float) -> None:
        self._fs, self._root, self._delay_s = fs, root, delay_s
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards the fields below
        self._flushing = threading.Lock()  # one flush at a time, so that a flush covers what an earlier one took
        self._dirty: set[str] = set()  # files with unsynced bytes
        self._renamed: set[str] = set()  # files whose bytes are durable, and whose new name is not
        self._named: set[str] = set()  # files that are durable with all folders above them
        self._timers: set[threading.Timer] = set()
        self._waiting = False  # one of the timers has not fired yet
        self._failure: OSError | None = None

    def mark(self, path: str, *, renamed: bool = False) -> None:
        """Note that ``path`` has unsynced bytes, or that it was only renamed to there."""
        self._here()
        with self._lock:
            (self._renamed if renamed else self._dirty).add(path)
            if self._waiting:
                return
            timer = threading.Timer(self._delay_s, self._fire)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:  # the interpreter is shutting down and starts no threads any more
                timer.cancel()
            else:
                self._timers.add(timer)
                self._waiting = True
                atexit.register(self._quiet_flush)
                return
        self.flush()

    def check(self) -> None:
        """Raise the failure of an earlier write-back, once."""
        self._here()
        if self._failure is not None:
            with self._lock:
                failure, self._failure = self._failure, None
            if failure is not None:
                raise failure

    def forget(self) -> None:
        """Something was removed behind our back: names that come back have to be made durable again."""
        self._here()
        with self._lock:
            self._named.clear()

    def name_now(self, path: str) -> None:
        """Make the name of a file durable at once. Raises ``OSError``."""
        self._here()
        for folder in self._folders(path):
            self._fs.fsync_dir(folder)
        with self._lock:
            self._named.add(path)

    def flush(self) -> None:
        """Make all marked files durable now. Raises the ``OSError`` of this or of an earlier failed attempt."""
        self._here()
        self._sync_marked()
        self.check()

    def close(self) -> None:
        """``flush``, and wait for the thread."""
        self._here()
        with self._lock:
            timers = list(self._timers)
        for timer in timers:
            timer.cancel()
            timer.join()
            self._done(timer)
        self.flush()

    def _fire(self) -> None:
        with self._lock:
            self._waiting = False  # from here on a mark starts a new timer
        self._sync_marked()
        self._done(threading.current_thread())

    def _done(self, timer: threading.Thread) -> None:
        with self._lock:
            self._timers = {other for other in self._timers if other is not timer}
            if not self._timers:
                self._waiting = False
                atexit.unregister(self._quiet_flush)

    def _quiet_flush(self) -> None:
        """At the exit of an interpreter that did not close the session. Nobody is left to be told of an error."""
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self.flush()

    def _sync_marked(self) -> None:
        with self._flushing:
            with self._lock:
                dirty, self._dirty = self._dirty, set()
                renamed, self._renamed = self._renamed, set()
            if len(dirty) + len(renamed) >= BATCH and self._attempt(self._fs.sync, self._root):
                synced, durable = dirty | renamed, [True]
            else:
                synced = renamed | {path for path in dirty if self._attempt(self._fs.fsync, path)}
                fresh = renamed | (synced - self._named)
                folders = {folder for path in fresh for folder in self._folders(path)}
                durable = [self._attempt(self._fs.fsync_dir, folder) for folder in sorted(folders, reverse=True)]
            if all(durable):
                with self._lock:
                    self._named |= synced

    def _folders(self, path: str) -> list[str]:
        """What has to be synced for a new name of ``path`` to be durable."""
        stop = os.path.dirname(self._root)
        folders = [os.path.dirname(path)]
        while path not in self._named and len(folders[-1]) > len(stop):
            folders.append(os.path.dirname(folders[-1]))
        return folders

    def _attempt(self, sync: Callable[[str], None], path: str) -> bool:
        try:
            sync(path)
        except FileNotFoundError:  # removed by its owner meanwhile: nothing to save
            return False
        except OSError as error:
            self._failure = error
            return False
        return True

    def _here(self) -> None:
        """After a fork: the timer thread stayed in the parent, and a lock may have been held by it."""
        if self._pid != os.getpid():
            self._reset()
