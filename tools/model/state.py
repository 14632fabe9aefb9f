"""What there is in the lake of ``parts_model`` at one moment, and the rules that mutations switch off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

ABSENT, PENDING, COMMITTED, DELETED = range(4)
STATUS = ("-", "claimed", "committed", "deleted")
NOTHING = -1  # the content of a record that refers to none

Copies = tuple[int, tuple[tuple[int, int], ...]]  # of one key: form of the live copy or 0, (batch, form) of the others


class Dead(NamedTuple):
    """What is left of a process that died."""

    at: str = "dead"


DEAD = Dead()


class State(NamedTuple):
    """Everything that there is.

    Attributes:
        live: form of each key's live copy, 0 where there is none.
        condemned: (key, batch, form), sorted.
        refs: of each reference its status and the keys that it names, as bits.
        procs: what each process knows.
        disk: of each key, all that a power cut may leave of it; empty when power is not modelled.
        logs: likewise, of each reference, its status.
    """

    live: tuple[int, ...]
    condemned: tuple[tuple[int, int, int], ...]
    refs: tuple[tuple[int, int], ...]
    procs: tuple[Any, ...]
    disk: tuple[frozenset[Copies], ...] = ()
    logs: tuple[frozenset[int], ...] = ()


@dataclass(frozen=True)
class Rules:
    """The protocol has all of them; each False is a mutation that must be noticed."""

    look_at_parts: bool = True  # a hit on a recipe is no hit on its parts
    look_at_bases: bool = True  # a hit on a difference is no hit on its base
    look_at_own_recipe: bool = True  # what an earlier try has published is looked at again, too
    flat_claims: bool = True  # a claim names recipe, parts and bases, not only the content
    name_bases: bool = True  # a claim names the bases of what it is going to publish
    follow_new: bool = True  # a recheck follows the parts that new records name
    whole_replaces_only: bool = True  # a difference is published only where no copy is
    parts_before_recipe: bool = True
    form_barrier: bool = True  # a collector makes the forms that it relied on durable before it removes
    hit_barrier: bool = True  # what a record relies on is durable before its commit, hit or miss
    look_before_drop: bool = True  # a form is dropped after a look at the other one that follows condemning
    claim_before_drop: bool = True  # ... under a claim that names the coded form
    log_barrier: bool = True  # a record is durable before it is acknowledged
    adopt: bool = True  # a collector settles what earlier ones have left condemned
    rebase_to_whole: bool = True  # a part is only ever rewritten into a form that needs nothing
    keep_better: bool = True  # a condemned copy is never given up for a live one that needs more than it does
    read_every_copy: bool = True  # a reader whose copy leads nowhere tries the others
    follow_every_copy: bool = True  # a collector follows what all copies of a part need, not only the first
    follow_both_recipes: bool = True  # ... and both recipes of a content, not only the first
