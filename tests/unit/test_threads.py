"""Pools of threads while the interpreter ends: where none can be started, the work is done all the same."""

from __future__ import annotations

import threading

import pytest

from dreamlake.threads import ThreadPoolExecutor


def test_a_pool_is_a_pool():
    with ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
        assert pool.submit(lambda: threading.current_thread().name).result().startswith("mine")
        assert list(pool.map(abs, [-1, 2])) == [1, 2]


def test_at_the_end_threads_are_used_while_they_can_be_started(monkeypatch):
    monkeypatch.setattr(threading, "_SHUTTING_DOWN", True, raising=False)
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        assert pool.submit(lambda: threading.current_thread().name).result().startswith("mine")


def test_without_threads_the_work_is_done_at_once(monkeypatch):
    monkeypatch.setattr(threading, "_SHUTTING_DOWN", True, raising=False)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda a, b: (a, b, threading.current_thread()), 1, b=2).result() == (
            1, 2, threading.current_thread(),
        )  # fmt: skip
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result()
