"""Optimization in the lake of ``parts_model``: the steps of ``operations/optimize`` and its part of ``commit``."""

from __future__ import annotations

from typing import Any, NamedTuple

from tools.model.parts_model import Lake
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


class Drop(NamedTuple):
    at: str = "hint"
    claim: int = 0
    walk: Walk = Walk(())


class Dropper(Uploader):
    """Removes the whole copy of a content that has a complete coded form: condemn, look, remove or restore."""

    def __init__(self, name: str, content: str, batch: int) -> None:
        super().__init__(name, content)
        self.batch = batch

    def settle_in(self, lake: Lake) -> int:
        super().settle_in(lake)
        return NOTHING

    def start(self) -> Any:
        return Drop()

    def _hint(self, lake: Lake, state: State, local: Any) -> Steps:
        recipe = self.recipe
        assert recipe is not None
        chain = self._chain(lake, state, recipe, lake.depth + 1)
        if not chain:
            return
        if lake.rules.claim_before_drop:
            yield "sees the coded form", self.go(state, Drop("claim", chain | 1 << self.content))
        else:
            yield "sees the coded form", self.go(state, Drop("condemn"))

    def _claim(self, lake: Lake, state: State, local: Any) -> Steps:
        text = " ".join(lake.keys[key] for key in lake.keys_in(local.claim))
        yield f"claims {text}", self.go(state, local._replace(at="condemn"), PENDING, local.claim)

    def _condemn(self, lake: Lake, state: State, local: Any) -> Steps:
        if not state.live[self.content]:
            yield "finds no whole copy", self._end(lake, state)
            return
        assert self.recipe is not None
        walk = Walk(((self.recipe, lake.depth + 1, LOOK),), 1 << self.content)
        at = "recipe" if lake.rules.look_before_drop else "commit"
        after = lake.condemn(state, self.content, self.batch)
        yield f"condemns {lake.keys[self.content]}", self.go(after, local._replace(at=at, walk=walk))

    def _recipe(self, lake: Lake, state: State, local: Any) -> Steps:
        for label, after, walk in advance(lake, state, local.walk, True):
            if walk is not None and walk.todo:
                yield label, self.go(after, local._replace(walk=walk))
            elif walk is not None and (not lake.rules.claim_before_drop or not walk.found & ~local.claim):
                at = "barrier" if lake.power else "commit"
                yield label, self.go(after, Drop(at, local.claim or walk.found))
            else:
                yield label, self.go(after, Drop("restore"))

    def _barrier(self, lake: Lake, state: State, local: Any) -> Steps:
        yield "makes the coded form durable", self.go(lake.synced(state, local.claim), Drop("commit", local.claim))

    def _commit(self, lake: Lake, state: State, local: Any) -> Steps:
        if not lake.rules.claim_before_drop:
            yield from self._remove(lake, state, local)
        elif state.refs[self.own()][0] == PENDING:
            yield "commits", self.go(state, Drop("sync" if lake.power else "remove"), COMMITTED, local.claim)
        else:
            yield "is refused: the claim is gone", self.go(state, Drop("restore"))

    def _sync(self, lake: Lake, state: State, local: Any) -> Steps:
        yield "makes its record durable", self.go(lake.logs_synced(state, [self.own()]), Drop("remove"))

    def _remove(self, lake: Lake, state: State, local: Any) -> Steps:
        copy = (self.content, self.batch, lake.whole_form(self.content))
        yield f"removes {lake.keys[self.content]}~{self.batch}", self._end(lake, lake.without(state, copy))

    def _restore(self, lake: Lake, state: State, local: Any) -> Steps:
        copy = (self.content, self.batch, lake.whole_form(self.content))
        after = lake.without(state, copy)
        if copy in state.condemned and not state.live[self.content]:
            after = lake.with_live(after, self.content, copy[2])
        yield f"restores {lake.keys[self.content]}", self._end(lake, after)

    def _end(self, lake: Lake, state: State) -> State:
        status, names = state.refs[self.own()]
        return self.go(state, Drop("done"), ABSENT if status == PENDING else status, names if status != PENDING else 0)


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
