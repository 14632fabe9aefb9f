"""Optimization in the lake of ``parts_model``: the steps of ``operations/optimize`` and its part of ``commit``."""

from __future__ import annotations

from typing import Any, NamedTuple

from tools.model.parts_model import Actor, Lake
from tools.model.state import ABSENT, COMMITTED, NOTHING, PENDING, State
from tools.model.uploads import LOOK, Maker, Steps, Up, Uploader, Walk, advance


class Recoder(Uploader):
    """Publishes a coded form beside a whole copy, under a record that names everything and refers to nothing."""

    def settle_in(self, lake: Lake) -> int:
        super().settle_in(lake)
        return NOTHING

    def _look(self, lake: Lake, state: State, local: Up) -> Steps:
        yield from self._missing(lake, state, local, "goes on")

    def _again(self, lake: Lake, state: State, local: Up) -> Steps:
        yield "gives up", self.go(state, Up("failed", False), ABSENT)

    _whole = _again

    def _hint(self, lake: Lake, state: State, local: Up) -> Steps:
        if local.coded and lake.opened(state, self.content):
            yield from super()._hint(lake, state, local)
        else:
            yield from self._again(lake, state, local)


class Turner(Recoder):
    """The same for a content that has a recipe already, in its other slot.

    Args:
        after: what has to be done before.
    """

    def __init__(self, name: str, content: str, forms: str, after: Actor | None = None) -> None:
        super().__init__(name, content, forms)
        self.after = after

    def _hint(self, lake: Lake, state: State, local: Up) -> Steps:
        turned = lake.form_key[self.plans[0][-1]]
        if not local.coded or not lake.readable(lake.all_copies(state), self.content):
            yield from self._again(lake, state, local)
        elif self._chain(lake, state, turned, lake.depth + 1):
            yield "finds it turned", self.go(state, Up("done", False), ABSENT)
        else:
            yield from Uploader._hint(self, lake, state, local)


class Drop(NamedTuple):
    """``form``: what was condemned; ``tries``: recipes still to be looked at, without the one that is."""

    at: str = "hint"
    claim: int = 0
    form: int = 0
    walk: Walk = Walk(())
    tries: tuple[int, ...] = ()


class Dropper(Uploader):
    """Removes a form of a content that has another complete coded one: condemn, look, remove or restore.

    Args:
        what: the recipe that goes; the whole copy when empty.
        after: what has to be done before.
    """

    def __init__(self, name: str, content: str, batch: int, what: str = "", after: Actor | None = None) -> None:
        super().__init__(name, content)
        self.batch, self._what, self.after = batch, what or content, after

    def settle_in(self, lake: Lake) -> int:
        super().settle_in(lake)
        self.key = lake.key(self._what)
        self.recipes = tuple(recipe for recipe in self.recipes if recipe != self.key)
        return NOTHING

    def start(self) -> Any:
        return Drop()

    def _hint(self, lake: Lake, state: State, local: Any) -> Steps:
        chains = (self._chain(lake, state, recipe, lake.depth + 1) for recipe in self.recipes)
        chain = next(filter(None, chains), 0)
        if not chain:
            return
        if lake.rules.claim_before_drop:
            yield "sees the other form", self.go(state, Drop("claim", chain | 1 << self.content))
        else:
            yield "sees the other form", self.go(state, Drop("condemn"))

    def _claim(self, lake: Lake, state: State, local: Any) -> Steps:
        text = " ".join(lake.keys[key] for key in lake.keys_in(local.claim))
        yield f"claims {text}", self.go(state, local._replace(at="condemn"), PENDING, local.claim)

    def _condemn(self, lake: Lake, state: State, local: Any) -> Steps:
        form = state.live[self.key]
        if not form:
            yield f"finds no {lake.keys[self.key]}", self._end(lake, state, "failed")
            return
        at = "recipe" if lake.rules.look_before_drop else "commit"
        after = lake.condemn(state, self.key, self.batch)
        local = self._looking(lake, local._replace(at=at, form=form), self.recipes)
        yield f"condemns {lake.form_names[form]}~{self.batch}", self.go(after, local)

    def _looking(self, lake: Lake, local: Any, recipes: tuple[int, ...]) -> Any:
        walk = Walk(((recipes[0], lake.depth + 1, LOOK),), 1 << self.content)
        return local._replace(walk=walk, tries=recipes[1:])

    def _recipe(self, lake: Lake, state: State, local: Any) -> Steps:
        for label, after, walk in advance(lake, state, local.walk, True):
            if walk is not None and walk.todo:
                yield label, self.go(after, local._replace(walk=walk))
            elif walk is not None and (not lake.rules.claim_before_drop or not walk.found & ~local.claim):
                at = "barrier" if lake.power else "commit"
                yield label, self.go(after, Drop(at, local.claim or walk.found, local.form))
            elif walk is None and local.tries:
                yield label, self.go(after, self._looking(lake, local, local.tries))
            else:
                yield label, self.go(after, Drop("restore", form=local.form))

    def _barrier(self, lake: Lake, state: State, local: Any) -> Steps:
        after = lake.synced(state, local.claim)
        yield "makes the other form durable", self.go(after, local._replace(at="commit"))

    def _commit(self, lake: Lake, state: State, local: Any) -> Steps:
        if not lake.rules.claim_before_drop:
            yield from self._remove(lake, state, local)
        elif state.refs[self.own()][0] == PENDING:
            after = Drop("sync" if lake.power else "remove", form=local.form)
            yield "commits", self.go(state, after, COMMITTED, local.claim)
        else:
            yield "is refused: the claim is gone", self.go(state, Drop("restore", form=local.form))

    def _sync(self, lake: Lake, state: State, local: Any) -> Steps:
        after = lake.logs_synced(state, [self.own()])
        yield "makes its record durable", self.go(after, local._replace(at="remove"))

    def _remove(self, lake: Lake, state: State, local: Any) -> Steps:
        copy = (self.key, self.batch, local.form)
        at = "done" if copy in state.condemned else "failed"
        yield f"removes {lake.form_names[local.form]}~{self.batch}", self._end(lake, lake.without(state, copy), at)

    def _restore(self, lake: Lake, state: State, local: Any) -> Steps:
        copy = (self.key, self.batch, local.form)
        after = lake.without(state, copy)
        if copy in state.condemned and not state.live[self.key]:
            after = lake.with_live(after, self.key, local.form)
        yield f"restores {lake.form_names[local.form]}", self._end(lake, after, "failed")

    def _end(self, lake: Lake, state: State, at: str) -> State:
        status, names = state.refs[self.own()]
        return self.go(state, Drop(at), ABSENT if status == PENDING else status, names if status != PENDING else 0)


class Rebaser(Maker):
    """Stores a part anew in a form that needs nothing, over whatever is there."""

    def __init__(self, name: str, part: str, otherwise: str = "") -> None:
        super().__init__(name)
        self._names = part, otherwise

    def settle_in(self, lake: Lake) -> None:
        self.part = lake.key(self._names[0])
        self.form = lake.whole_form(self.part)
        if not lake.rules.rebase_to_whole:
            self.form = lake.form(self._names[1])

    def start(self) -> Up:
        return Up("rebase")

    def steps(self, lake: Lake, state: State) -> Steps:
        local: Up = state.procs[self.slot]
        if local.at == "rebase" and lake.opened(state, self.part):
            after = lake.with_live(state, self.part, self.form)
            yield f"stores {lake.form_names[self.form]} anew", self.go(after, Up("barrier" if lake.power else "done"))
        elif local.at == "barrier":
            yield "makes it durable", self.go(lake.synced(state, 1 << self.part), Up("done"))
