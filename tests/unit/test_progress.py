"""The bar: only on a terminal, only for work that lasts, with the right sum, and gone afterwards."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace

import pytest

from dreamlake import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    found = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=found))  # pytest swaps the real one between phases
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("DREAMLAKE_PROGRESS", raising=False)
    return found


def test_nothing_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=io.StringIO()))
    with progress.meter(100, "work") as advance:
        assert advance is None
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=None))
    with progress.meter(100, "work") as advance:
        assert advance is None


def test_nothing_when_turned_off_or_when_there_is_nothing_to_do(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.meter(0, "work") as advance:
        assert advance is None
    monkeypatch.setenv("DREAMLAKE_PROGRESS", "0")
    with progress.meter(100, "work") as advance:
        assert advance is None
    assert terminal.getvalue() == ""


def test_short_work_shows_nothing(terminal: Terminal) -> None:
    with progress.meter(100, "work") as advance:
        assert advance is not None
        advance(60)
        advance(40)
    assert terminal.getvalue() == ""


def test_long_work_shows_what_was_done_from_its_start_and_leaves_nothing(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_DELAY_S", -1.0)
    with progress.meter(100 << 20, "upload x") as advance:
        assert advance is not None
        advance(25 << 20)
        advance(25 << 20)
    shown = terminal.getvalue()
    assert "upload x" in shown and "/100M" in shown
    assert shown.rpartition("\r")[2] == "" and shown.rstrip("\r").rpartition("\r")[2].strip() == ""


def test_many_threads_add_up(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = progress._Bar(8000, "work", "files")
    threads = [threading.Thread(target=lambda: [bar.advance(1) for _ in range(1000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bar._done == 8000
    bar.close()


def test_an_error_in_the_work_closes_the_bar(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_DELAY_S", -1.0)
    with pytest.raises(RuntimeError), progress.meter(None, "work") as advance:
        assert advance is not None
        advance(1)
        raise RuntimeError
    assert terminal.getvalue().rstrip("\r").rpartition("\r")[2].strip() == ""
