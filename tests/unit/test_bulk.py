"""Bursts of allocation without the cyclic garbage collector."""

from __future__ import annotations

import gc

from dreamlake.bulk import paused_gc


def test_the_collector_is_off_inside_and_on_after():
    assert gc.isenabled()
    with paused_gc():
        assert not gc.isenabled()
        with paused_gc():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_made_inside_is_not_walked_by_the_next_young_collection():
    with paused_gc():
        made = [[] for _ in range(1000)]
    assert gc.get_count()[0] < 500
    assert made and gc.get_freeze_count() == 0


def test_cycles_made_inside_are_still_found():
    class Node:
        def __init__(self) -> None:
            self.me = self

    with paused_gc():
        Node()
    assert gc.collect() > 0


def test_what_the_program_has_frozen_stays_frozen():
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        with paused_gc():
            pass
        assert gc.get_freeze_count() == before > 0
    finally:
        gc.unfreeze()
