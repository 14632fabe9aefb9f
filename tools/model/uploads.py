"""Uploads, copies and restores in the lake of ``parts_model``, one system call or protocol step at a time.

The steps are those of ``operations/commit.py`` and ``content/presence.py``, in their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from tools.model.parts_model import Actor, Lake
from tools.model.state import ABSENT, COMMITTED, PENDING, State

Steps = Iterator[tuple[str, State]]
LOOK, READ, LEAVE = range(3)  # what comes next for a key on a walk


class Walk(NamedTuple):
    """Keys still to be looked at, the next one last, as (key, bases that may follow it, what comes next)."""

    todo: tuple[tuple[int, int, int], ...]
    found: int = 0


def tidy(walk: Walk) -> Walk:
    """Up to the next call that anybody else could notice."""
    todo, found = list(walk.todo), walk.found
    while todo and (todo[-1][2] == LEAVE or (todo[-1][2] == LOOK and found >> todo[-1][0] & 1)):
        found |= 1 << todo.pop()[0]
    return Walk(tuple(todo), found)


def advance(lake: Lake, state: State, walk: Walk, resurrect: bool) -> Iterator[tuple[str, State, Walk | None]]:
    """One call of a walk; None when something is missing, or more bases are needed than may be."""
    *rest, (key, left, stage) = walk.todo
    if stage == LOOK:
        for label, after, hit in lake.look(state, key, resurrect):
            if not hit or left < 0:
                yield label, after, None
            elif lake.coarse:
                for more, last, on in advance(lake, after, Walk((*rest, (key, left, READ)), walk.found), resurrect):
                    yield f"{label}, {more}", last, on
            else:
                yield label, after, Walk((*rest, (key, left, READ)), walk.found)
        return
    form = lake.opened(state, key)
    if not form:
        yield f"{lake.keys[key]} is gone again", state, None
        return
    follow = lake.rules.look_at_parts if key in lake.content else lake.rules.look_at_bases
    needs = lake.needs[form] if follow else ()
    inner = tuple((need, left - 1, LOOK) for need in reversed(needs))
    names = " ".join(lake.keys[need] for need in lake.needs[form]) or "nothing"
    yield f"{lake.keys[key]} needs {names}", state, tidy(Walk((*rest, (key, left, LEAVE), *inner), walk.found))


def put(state: State, slot: int, local: Any) -> State:
    procs = list(state.procs)
    procs[slot] = local
    return state._replace(procs=tuple(procs))


class Maker:
    """A process that makes one reference."""

    def __init__(self, name: str) -> None:
        self.name, self.slot = name, -1
        self.ref: int | None = None
        self.after: Actor | None = None

    def own(self) -> int:
        assert self.ref is not None
        return self.ref

    def go(self, state: State, local: Any, status: int | None = None, mask: int = 0) -> State:
        after = put(state, self.slot, local)
        if status is None:
            return after
        refs = list(after.refs)
        refs[self.own()] = (status, mask)
        return after._replace(refs=tuple(refs))


class Up(NamedTuple):
    """``coded``: parts and recipe wait or were published; ``plan``: which of those that the maker may follow;
    ``waiting``: forms still to be published; ``tries``: recipes still to be looked at, and whether to resurrect."""

    at: str = "hint"
    coded: bool = True
    claim: int = 0
    waiting: tuple[int, ...] = ()
    walk: Walk = Walk(())
    plan: int = 0
    tries: tuple[tuple[int, bool], ...] = ()


class Uploader(Maker):
    """Stores a content as recipe and parts, falls back to storing it whole; or copies and restores, without bytes.

    Args:
        content: its key.
        forms: what it would publish, such as "P:B rX:P"; none to store it whole. Other ways to code it follow after a
            slash. Parts that the recipe names and that are not among these have to be stored.
        bytes_in_hand: False for a copy or a restore.
    """

    def __init__(self, name: str, content: str, forms: str = "", *, bytes_in_hand: bool = True) -> None:
        super().__init__(name)
        self._names = content, forms
        self.bytes_in_hand = bytes_in_hand

    def settle_in(self, lake: Lake) -> int:
        self.content = lake.key(self._names[0])
        self.recipes = lake.recipes.get(self.content, ())
        self.plans = [[lake.form(name) for name in plan.split()] for plan in self._names[1].split("/")]
        return self.content

    def start(self) -> Up:
        return Up(coded=bool(self.plans[0]))

    # The claim names what will be relied on. What it is found by is a hint: everything is looked at again after it.

    def steps(self, lake: Lake, state: State) -> Steps:
        local: Up = state.procs[self.slot]
        yield from getattr(self, f"_{local.at}")(lake, state, local)

    def _hint(self, lake: Lake, state: State, local: Up) -> Steps:
        if not local.coded:
            yield from self._claimed(lake, state, local, self._stored(lake, state))
            return
        for plan in range(len(self.plans)):
            yield from self._plan(lake, state, local._replace(plan=plan))

    def _plan(self, lake: Lake, state: State, local: Up) -> Steps:
        *parts, recipe = self.plans[local.plan]
        others = [self._chain(lake, state, key) for key in self._stored_parts(lake, local)]
        if not all(others):
            return
        for chosen in itertools.product(*(self._choices(lake, state, form) for form in parts)):
            waiting = [form for form, stored in zip(parts, chosen, strict=True) if not stored]
            waiting = [*waiting, recipe] if lake.rules.parts_before_recipe else [recipe, *waiting]
            names = lake.bits([self.content, lake.form_key[recipe]])
            for stored in others:
                names |= stored
            for form, stored in zip(parts, chosen, strict=True):
                names |= stored or self._claim_of(lake, state, form)
            yield from self._claimed(lake, state, local._replace(waiting=tuple(waiting)), names)

    def _stored_parts(self, lake: Lake, local: Up) -> list[int]:
        """Parts that the recipe names without a form of them in hand."""
        *parts, recipe = self.plans[local.plan]
        mine = {lake.form_key[form] for form in parts}
        return [key for key in lake.needs[recipe] if key not in mine]

    def _choices(self, lake: Lake, state: State, form: int) -> list[int]:
        """Of a part: 0 to stage it (it was missing when it was looked for), or the blobs in which it is stored.

        It is only staged as a difference to its own twin where that was seen.
        """
        chain = self._chain(lake, state, lake.form_key[form])
        twin = lake.leans_on(form)
        staged = [0] if twin is None or self._chain(lake, state, twin, lake.depth - 1) else []
        return [*staged, chain] if chain else staged

    def _claim_of(self, lake: Lake, state: State, form: int) -> int:
        names = 1 << lake.form_key[form]
        for base in lake.needs[form] if lake.rules.name_bases else ():
            names |= self._chain(lake, state, base) or 1 << base
        return names

    def _chain(self, lake: Lake, state: State, key: int, left: int | None = None) -> int:
        """A part and all it needs, if all of them are live now; else 0."""
        left = lake.depth if left is None else left
        if not state.live[key] or left < 0:
            return 0
        found = 1 << key
        for base in lake.needs[state.live[key]]:
            chain = self._chain(lake, state, base, left - 1)
            if not chain:
                return 0
            found |= chain
        return found

    def _stored(self, lake: Lake, state: State) -> int:
        found = 0
        if not state.live[self.content]:
            chains = (self._chain(lake, state, recipe, lake.depth + 1) for recipe in self.recipes)
            found = next(filter(None, chains), 0)
        return found | 1 << self.content

    def _claimed(self, lake: Lake, state: State, local: Up, names: int) -> Steps:
        local = local._replace(at="claim", claim=names if lake.rules.flat_claims else 1 << self.content)
        if lake.coarse:
            yield from self._claim(lake, state, local)
        else:
            yield "sees what is stored", self.go(state, local)

    def _claim(self, lake: Lake, state: State, local: Up) -> Steps:
        text = " ".join(lake.keys[key] for key in lake.keys_in(local.claim))
        waiting = " ".join(lake.form_names[form] for form in local.waiting)
        label = f"claims {text}" + (f"; stages {waiting}" if waiting else "")
        yield label, self.go(state, local._replace(at="look"), PENDING, local.claim)

    def _again(self, lake: Lake, state: State, local: Up) -> Steps:
        """The same claim once more."""
        yield from self._claim(lake, state, local)

    def _look(self, lake: Lake, state: State, local: Up) -> Steps:
        """Is the content stored?"""
        for label, after, hit in lake.look(state, self.content, not local.waiting):
            if hit:
                yield label, self.go(after, self._ready(lake, local))
            elif not self.recipes:
                yield from self._missing(lake, after, local, label)
            else:
                yield label, self.go(after, self._trying(lake, local, self._tries(not local.waiting)))

    def _tries(self, resurrect: bool) -> tuple[tuple[int, bool], ...]:
        """Of two recipes only one that is not complete otherwise is brought back to life."""
        passes = (resurrect,) if len(self.recipes) == 1 or not resurrect else (False, True)
        return tuple((recipe, back) for back in passes for recipe in self.recipes)

    def _trying(self, lake: Lake, local: Up, tries: tuple[tuple[int, bool], ...]) -> Up:
        walk = Walk(((tries[0][0], lake.depth + 1, LOOK),), 1 << self.content)
        return local._replace(at="recipe", walk=walk, tries=tries)

    def _recipe(self, lake: Lake, state: State, local: Up) -> Steps:
        for label, after, walk in advance(lake, state, local.walk, local.tries[0][1]):
            if walk is None and len(local.tries) > 1:
                yield label, self.go(after, self._trying(lake, local, local.tries[1:]))
            elif walk is None:
                yield from self._missing(lake, after, local._replace(tries=()), label)
            elif walk.todo:
                yield label, self.go(after, local._replace(walk=walk))
            elif self._names_all(lake, walk.found, local.claim):
                yield label, self.go(after, self._ready(lake, local))
            else:
                again = Up("again", False, walk.found)
                yield f"{label}; stored in other blobs than claimed", self.go(after, again, ABSENT)

    def _names_all(self, lake: Lake, found: int, claim: int) -> bool:
        return not found & ~claim or not lake.rules.flat_claims or not lake.rules.name_bases

    def _missing(self, lake: Lake, state: State, local: Up, label: str) -> Steps:
        waiting = set(local.waiting)
        *parts, recipe = self.plans[local.plan] if local.coded else [0]
        if local.coded and (recipe in waiting or not lake.rules.look_at_own_recipe):
            roots = [*self._stored_parts(lake, local), *(lake.form_key[form] for form in parts if form not in waiting)]
            roots += [base for form in parts if form in waiting for base in lake.needs[form]]
            walk = Walk(tuple((root, lake.depth, LOOK) for root in reversed(roots)))
            at = "roots" if roots and lake.rules.look_at_parts else "publish"
            yield label, self.go(state, self._publishing(lake, local._replace(at=at, walk=walk)))
        elif self.bytes_in_hand:
            yield label, self.go(state, Up("whole", False, local.claim))
        else:
            yield f"{label}; gives up", self.go(state, Up("failed", False), ABSENT)

    def _publishing(self, lake: Lake, local: Up) -> Up:
        return self._ready(lake, local) if local.at == "publish" and not local.waiting else local

    def _roots(self, lake: Lake, state: State, local: Up) -> Steps:
        """What the staged forms rely on: parts found stored earlier, and bases."""
        for label, after, walk in advance(lake, state, local.walk, True):
            if walk is not None and walk.todo:
                yield label, self.go(after, local._replace(walk=walk))
            elif walk is not None and self._names_all(lake, walk.found, local.claim):
                yield label, self.go(after, self._publishing(lake, local._replace(at="publish", walk=Walk(()))))
            else:
                yield f"{label}; stores it whole", self.go(after, Up("whole", False, local.claim))

    def _publish(self, lake: Lake, state: State, local: Up) -> Steps:
        form = local.waiting[0]
        key = lake.form_key[form]
        difference = bool(lake.needs[form]) and key not in lake.content
        if difference and lake.rules.whole_replaces_only and state.live[key]:
            walk = Walk(((key, lake.depth, LOOK),))
            yield (
                f"{lake.form_names[form]} is not published over another",
                self.go(state, local._replace(at="theirs", walk=walk)),
            )
        else:
            yield (
                f"publishes {lake.form_names[form]}",
                self.go(lake.with_live(state, key, form), self._next(lake, local)),
            )

    def _next(self, lake: Lake, local: Up) -> Up:
        waiting = local.waiting[1:]
        return self._publishing(lake, local._replace(at="publish", waiting=waiting, walk=Walk(())))

    def _theirs(self, lake: Lake, state: State, local: Up) -> Steps:
        for label, after, walk in advance(lake, state, local.walk, True):
            if walk is not None and walk.todo:
                yield label, self.go(after, local._replace(walk=walk))
            elif walk is not None and self._names_all(lake, walk.found, local.claim):
                yield f"{label}; relies on theirs", self.go(after, self._next(lake, local))
            else:
                yield f"{label}; theirs is not what was claimed", self.go(after, Up("hint", False), ABSENT)

    def _whole(self, lake: Lake, state: State, local: Up) -> Steps:
        form = lake.whole_form(self.content)
        after = lake.with_live(state, self.content, form)
        yield f"publishes {lake.keys[self.content]}", self.go(after, self._ready(lake, local))

    def _ready(self, lake: Lake, local: Up) -> Up:
        return local._replace(
            at="barrier" if lake.power and lake.rules.hit_barrier else "commit", walk=Walk(()), tries=()
        )

    def _barrier(self, lake: Lake, state: State, local: Up) -> Steps:
        yield "makes the claimed shards durable", self.go(lake.synced(state, local.claim), local._replace(at="commit"))

    def _commit(self, lake: Lake, state: State, local: Up) -> Steps:
        status, names = state.refs[self.own()]
        if status == PENDING:
            at = "ack" if lake.power and lake.rules.log_barrier else "done"
            yield "commits", self.go(state, Up(at, False), COMMITTED, names)
        else:
            again = local._replace(at="again") if local.coded else Up("hint", False)
            yield "is refused: the claim is gone", self.go(state, again)

    def _ack(self, lake: Lake, state: State, local: Up) -> Steps:
        yield "makes its record durable", self.go(lake.logs_synced(state, [self.own()]), Up("done", False))

    def _done(self, lake: Lake, state: State, local: Up) -> Steps:
        return iter(())

    _failed = _done
