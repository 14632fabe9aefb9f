"""A lake of contents, recipes, parts and bases, small enough to explore every state that anybody can bring it into.

A **key** has at most one live copy, and condemned copies under the name of the batch that hid them. Each copy has a
**form**, which says what the copy needs before anybody can read it: a whole content or part needs nothing, a recipe
needs its parts, a difference its base. Keys and forms are written ``X`` (the content X stored whole), ``rX:P`` (the
recipe of X, over part P), ``P`` (a part stored so that it needs nothing), ``P:B`` (P as a difference to B).
``tX:p`` and ``p:b`` are recipe and parts in their second slots: keys of their own, with the same plain bytes.

A **reference** is a record that is pending, committed or deleted, and names keys. Who does what with all these is in
``uploads``, ``optimizers`` and ``collectors``; here are the state, the environment (claims revoked and records deleted
at any moment) and the invariants. A process that dies is one that never takes another step, so that deaths need no
steps of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from tools.model.state import ABSENT, COMMITTED, DEAD, DELETED, NOTHING, PENDING, STATUS, Copies, Rules, State


class Actor(Protocol):
    """One process: ``slot`` is its place in ``State.procs``, ``ref`` the reference that it makes, if any."""

    name: str
    slot: int
    ref: int | None
    after: Actor | None  # begins once this one has done what it wanted

    def settle_in(self, lake: Lake) -> int | None:
        """Look up keys and forms. Returns what the reference that it makes refers to; None when it makes none."""
        ...

    def start(self) -> Any: ...

    def steps(self, lake: Lake, state: State) -> Iterator[tuple[str, State]]: ...


class Lake:
    """The world of one exploration.

    Args:
        forms: every form that may exist, such as "X rX:P P P:B B".
        live: forms that are live in the beginning.
        condemned: forms that an earlier collection left condemned.
        refs: contents that are referenced in the beginning.
        actors: the processes.
        depth: bases that may be decoded one after the other.
        revoke: claims may be revoked at any moment, also those of the living.
        mortal: whose claim is revoked has died: nothing is ever revoked that somebody still works on.
        delete: the references of the beginning may be deleted at any moment.
        power: the power may go off at any moment.
        clean: judge what one clean collection would leave, in every state (I7).
        coarse: a look at a part and the reading of what it needs are one step.
        strict: judge also whether a form is complete in the very slots that it names.
    """

    def __init__(
        self,
        forms: str,
        live: str,
        actors: Sequence[Actor],
        *,
        condemned: str = "",
        refs: str = "",
        depth: int = 2,
        revoke: bool = True,
        delete: bool = True,
        power: bool = False,
        clean: bool = False,
        coarse: bool = False,
        mortal: bool = False,
        strict: bool = False,
        rules: Rules | None = None,
    ) -> None:
        self.rules = rules or Rules()
        self.actors = list(actors)
        self.depth, self.revoke, self.delete, self.power = depth, revoke, delete, power
        self.clean, self.coarse, self.mortal, self.strict = clean, coarse, mortal, strict
        names = [name.partition(":")[0] for name in forms.split()]
        self.keys = list(dict.fromkeys(names))
        self.form_names = ["", *forms.split()]
        self.form_key = [-1, *(self.key(name) for name in names)]
        self.needs: list[tuple[int, ...]] = [()]
        for form in forms.split():
            self.needs.append(tuple(self.key(base) for base in form.partition(":")[2].split("+") if base))
        recipes = [name for slot in "rt" for name in self.keys if name[0] == slot and len(name) > 1]
        self.content = {self.key(name): self.key(name[1:]) for name in recipes}
        self.recipes: dict[int, tuple[int, ...]] = {}
        for recipe, content in self.content.items():
            self.recipes[content] = (*self.recipes.get(content, ()), recipe)
        parts = [name for name in self.keys if self.is_part(self.key(name))]
        self.twins = {self.key(name): self.key(name.swapcase()) for name in parts if name.swapcase() in parts}
        self.contents = [self.key(name) for name in refs.split()]
        self.initial = len(self.contents)
        for slot, actor in enumerate(self.actors):
            actor.slot = slot
            about = actor.settle_in(self)
            if about is not None:
                actor.ref = len(self.contents)
                self.contents.append(about)
        self._first = self._state(live, condemned)
        self._clean_known: dict[Any, str | None] = {}

    def key(self, name: str) -> int:
        return self.keys.index(name)

    def form(self, name: str) -> int:
        return self.form_names.index(name)

    def whole_form(self, key: int) -> int:
        """The form of a key that needs nothing."""
        return self.form(self.keys[key])

    def leans_on(self, form: int) -> int | None:
        """The twin to which this form is a difference; None when it is to none."""
        twin = self.twins.get(self.form_key[form])
        return twin if twin in self.needs[form] else None

    def bits(self, keys: Iterable[int]) -> int:
        mask = 0
        for key in keys:
            mask |= 1 << key
        return mask

    def keys_in(self, mask: int) -> list[int]:
        return [key for key in range(len(self.keys)) if mask >> key & 1]

    def is_part(self, key: int) -> bool:
        return key not in self.recipes and key not in self.content

    def _state(self, live: str, condemned: str) -> State:
        forms = [0] * len(self.keys)
        for name in live.split():
            forms[self.form_key[self.form(name)]] = self.form(name)
        hidden = tuple(sorted((self.form_key[self.form(name)], 0, self.form(name)) for name in condemned.split()))
        state = State(tuple(forms), hidden, (), ())
        refs = [(COMMITTED, self.closure(state, 1 << content)) for content in self.contents[: self.initial]]
        refs += [(ABSENT, 0)] * (len(self.contents) - self.initial)
        state = state._replace(refs=tuple(refs), procs=tuple(actor.start() for actor in self.actors))
        if self.power:
            disk = tuple(frozenset([self.copies(state, key)]) for key in range(len(self.keys)))
            state = state._replace(disk=disk, logs=tuple(frozenset([status]) for status, _ in refs))
        return state

    # ---- what there is -------------------------------------------------------------------------------------------

    def copies(self, state: State, key: int) -> Copies:
        return state.live[key], tuple((batch, form) for k, batch, form in state.condemned if k == key)

    def all_copies(self, state: State) -> list[Copies]:
        return [self.copies(state, key) for key in range(len(self.keys))]

    def opened(self, state: State, key: int) -> int:
        """The form that a reader gets: of the live copy, else of the first condemned one; 0 when there is none."""
        live, others = self.copies(state, key)
        return live or (others[0][1] if others else 0)

    def closure(self, state: State, mask: int) -> int:
        """These keys, and all that reading them may touch."""
        waiting, found = self.keys_in(mask), 0
        while waiting:
            key = waiting.pop()
            if found >> key & 1:
                continue
            found |= 1 << key
            waiting += [recipe for recipe in self.recipes.get(key, ()) if self.opened(state, recipe)]
            waiting += self.needs[self.opened(state, key)]
            twin = self.twins.get(key)
            if twin is not None and not self.opened(state, key) and self.opened(state, twin):
                waiting.append(twin)  # that is where readers find it, and collectors keep it
        return found

    def readable(self, copies: Sequence[Copies], content: int) -> bool:
        """True if a reader gets the content, whichever condemned copies it finds first.

        It takes the first recipe that there is, and a part that is not in its slot from the other one.
        """
        if copies[content][0] or copies[content][1]:
            return True
        for recipe in self.recipes.get(content, ()):
            for form in [copies[recipe][0], *(form for _, form in copies[recipe][1])]:
                if form:
                    return all(self._decodes_anywhere(copies, part) for part in self.needs[form])
        return False

    def _decodes_anywhere(self, copies: Sequence[Copies], part: int) -> bool:
        return any(
            self._decodes(copies, each, self.depth, True) for each in (part, self.twins.get(part)) if each is not None
        )

    def complete(self, copies: Sequence[Copies], content: int) -> bool:
        """True if one form of the content has all that it names in the very places that it names."""
        recipes = self.recipes.get(content, ())
        return bool(copies[content][0] or copies[content][1]) or any(
            self._decodes(copies, recipe, self.depth + 1) for recipe in recipes
        )

    def readable_part(self, state: State, key: int) -> bool:
        return self._decodes(self.all_copies(state), key, self.depth)

    def _decodes(self, copies: Sequence[Copies], key: int, left: int, anywhere: bool = False) -> bool:
        if anywhere and copies[key] == (0, ()):
            key = self.twins.get(key, key)
        live, others = copies[key]
        hidden = [form for _, form in others]
        if self.rules.read_every_copy:
            forms = [*([live] if live else []), *hidden]
            return any(self._form_decodes(copies, form, left, anywhere) for form in forms)
        forms = [live] if live else hidden
        return bool(forms) and all(self._form_decodes(copies, form, left, anywhere) for form in forms)

    def _form_decodes(self, copies: Sequence[Copies], form: int, left: int, anywhere: bool) -> bool:
        needs = self.needs[form]
        return not needs or (left > 0 and all(self._decodes(copies, key, left - 1, anywhere) for key in needs))

    # ---- what may happen -----------------------------------------------------------------------------------------

    def start(self) -> State:
        return self._first

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for number, (status, _) in enumerate(state.refs):
            if status == PENDING and self.revoke:
                after = self.with_ref(state, number, ABSENT, 0)
                if self.mortal:
                    slot = next(actor.slot for actor in self.actors if actor.ref == number)
                    procs = list(after.procs)
                    procs[slot] = DEAD
                    after = after._replace(procs=tuple(procs))
                yield f"claim {self.ref_name(number)} revoked", self.note(state, after)
            if status == COMMITTED and self.delete and number < self.initial:
                after = self.with_ref(state, number, DELETED, state.refs[number][1])
                yield f"record {self.ref_name(number)} deleted", self.note(state, after)
        for actor in self.actors:
            if state.procs[actor.slot] is DEAD or not (
                actor.after is None or state.procs[actor.after.slot].at == "done"
            ):
                continue
            for label, after in actor.steps(self, state):
                yield f"{actor.name}: {label}", self.note(state, after)

    def note(self, before: State, after: State) -> State:
        """Remember what a power cut may take back."""
        if not self.power:
            return after
        disk, logs = list(after.disk), list(after.logs)
        if before.live != after.live or before.condemned != after.condemned:
            for key in range(len(self.keys)):
                copies = self.copies(after, key)
                if copies != self.copies(before, key):
                    disk[key] |= {copies}
        for number, (old, new) in enumerate(zip(before.refs, after.refs, strict=True)):
            if old[0] != new[0]:
                logs[number] |= {new[0]}
        return after._replace(disk=tuple(disk), logs=tuple(logs))

    def synced(self, state: State, mask: int) -> State:
        """The shards of these keys made durable."""
        if not self.power:
            return state
        disk = [
            frozenset([self.copies(state, key)]) if mask >> key & 1 else found for key, found in enumerate(state.disk)
        ]
        return state._replace(disk=tuple(disk))

    def logs_synced(self, state: State, numbers: Iterable[int]) -> State:
        if not self.power:
            return state
        logs = list(state.logs)
        for number in numbers:
            logs[number] = frozenset([state.refs[number][0]])
        return state._replace(logs=tuple(logs))

    def with_ref(self, state: State, number: int, status: int, mask: int) -> State:
        refs = list(state.refs)
        refs[number] = (status, mask)
        return state._replace(refs=tuple(refs))

    def with_live(self, state: State, key: int, form: int) -> State:
        live = list(state.live)
        live[key] = form
        return state._replace(live=tuple(live))

    def condemn(self, state: State, key: int, batch: int) -> State:
        hidden = tuple(sorted([*state.condemned, (key, batch, state.live[key])]))
        return self.with_live(state, key, 0)._replace(condemned=hidden)

    def without(self, state: State, copy: tuple[int, int, int]) -> State:
        return state._replace(condemned=tuple(other for other in state.condemned if other != copy))

    def look(self, state: State, key: int, resurrect: bool) -> list[tuple[str, State, bool]]:
        """Every outcome of one look: what happens, the state after it, and whether it was a hit."""
        name = self.keys[key]
        if state.live[key]:
            return [(f"look at {name}: {self.form_names[state.live[key]]} is live", state, True)]
        found = [copy for copy in state.condemned if copy[0] == key] if resurrect else []
        if not found:
            return [(f"look at {name}: missing", state, False)]
        back = []
        for copy in found:
            label = f"look at {name}: {self.form_names[copy[2]]}~{copy[1]} resurrected"
            back.append((label, self.with_live(self.without(state, copy), key, copy[2]), True))
        return back

    # ---- what must hold ------------------------------------------------------------------------------------------

    def wrong(self, state: State) -> str | None:
        for number, (status, _) in enumerate(state.refs):
            content = self.contents[number]
            if content == NOTHING:
                continue
            if status == COMMITTED and not self.readable(self.all_copies(state), content):
                return f"I1: {self.keys[content]} of {self.ref_name(number)} cannot be read"
            if self.strict and status == COMMITTED and not self.complete(self.all_copies(state), content):
                return f"no form of {self.keys[content]} of {self.ref_name(number)} is complete"
            if self.power and COMMITTED in state.logs[number]:
                for copies in itertools.product(*state.disk):
                    if not self.readable(copies, content):
                        return f"I1 after a power cut: {self.keys[content]} of {self.ref_name(number)} cannot be read"
        if self.power:
            for actor in self.actors:
                acknowledged = actor.ref is not None and state.procs[actor.slot].at == "done"
                if actor.ref is not None and acknowledged and not state.logs[actor.ref] <= {COMMITTED, DELETED}:
                    return f"I4 after a power cut: {self.ref_name(actor.ref)} was acknowledged and is gone"
        return self._not_clean(state) if self.clean else None

    def _not_clean(self, state: State) -> str | None:
        """I7: when all others have ended, one collection leaves exactly what is referenced."""
        refs = tuple((status, mask) if status >= COMMITTED else (ABSENT, 0) for status, mask in state.refs)
        bare = state._replace(refs=refs, procs=(), disk=(), logs=())
        if bare not in self._clean_known:
            self._clean_known[bare] = self._clean_up(bare)
        return self._clean_known[bare]

    def _clean_up(self, state: State) -> str | None:
        from tools.model.collectors import Collector

        after = state
        for batch in (90, 91):  # a second one when the first stored a part anew: its base is free only then
            cleaner = Collector(batch)
            cleaner.slot = 0
            after = after._replace(procs=(cleaner.start(),))
            while after.procs[0].at != "done":
                after = next(iter(cleaner.steps(self, after)))[1]
        referenced = [self.contents[n] for n, (status, _) in enumerate(after.refs) if status == COMMITTED]
        wanted = self.closure(after, self.bits(content for content in referenced if content != NOTHING))
        there = self.bits(key for key, form in enumerate(after.live) if form)
        if after.condemned:
            return f"I7: {self.show(after)} still condemned after a clean collection"
        if there & ~wanted:
            return f"I7: {[self.keys[k] for k in self.keys_in(there & ~wanted)]} left after a clean collection"
        return None

    # ---- for people ----------------------------------------------------------------------------------------------

    def ref_name(self, number: int) -> str:
        content = self.contents[number]
        return f"r{number}({'noop' if content == NOTHING else self.keys[content]})"

    def show(self, state: State) -> str:
        copies = [self.form_names[form] for form in state.live if form]
        copies += [f"{self.form_names[form]}~{batch}" for _, batch, form in state.condemned]
        refs = [f"{self.ref_name(n)} {STATUS[status]}" for n, (status, _) in enumerate(state.refs) if status]
        return f"{' '.join(copies) or 'nothing'} | {', '.join(refs)}"
