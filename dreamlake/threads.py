"""Pools of threads that also work while the interpreter ends.

Uploads in the background are finished then (``background``), and Python 3.12 starts no thread any more at that moment.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

__all__ = ["ThreadPoolExecutor"]


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """The pool of the standard library; where no thread can be started, work is done by whoever submits it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not getattr(threading, "_SHUTTING_DOWN", False) or _threads_start():
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def _threads_start() -> bool:
    """False while the interpreter refuses new threads."""
    try:
        probe = threading.Thread(target=bool)
        probe.start()
    except RuntimeError:
        return False
    probe.join()
    return True
