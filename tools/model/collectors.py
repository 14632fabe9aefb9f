"""Collection in the lake of ``parts_model``: the steps of ``operations/collect``, ``marking`` and ``forms``."""

from __future__ import annotations

from typing import NamedTuple

from tools.model.parts_model import Actor, Lake
from tools.model.state import COMMITTED, DELETED, NOTHING, PENDING, State
from tools.model.uploads import Steps, put


class Col(NamedTuple):
    """``kept``: keys that something refers to; ``records``: those read so far; ``noted``: contents that have a recipe;
    ``followed``: parts whose bases were counted; ``queue``: still to be condemned; ``copies``: still to be settled."""

    at: str = "survey"
    kept: int = 0
    records: int = 0
    noted: int = 0
    followed: int = 0
    queue: tuple[int, ...] = ()
    copies: tuple[tuple[int, int, int], ...] = ()


class Collector:
    """Condemns what nothing referred to in its survey, rechecks, and settles what it and earlier ones condemned.

    Args:
        batch: the name under which it condemns.
        surveyed: it has ended its survey before anything was referenced, and listed these keys as live.
    """

    def __init__(self, batch: int, surveyed: str = "") -> None:
        self.name, self.batch, self.slot = f"collector {batch}", batch, -1
        self._surveyed = surveyed
        self._listed: tuple[int, ...] = ()
        self.ref: int | None = None
        self.after: Actor | None = None

    def settle_in(self, lake: Lake) -> None:
        self._listed = tuple(lake.key(name) for name in self._surveyed.split())

    def start(self) -> Col:
        return Col("condemn", queue=self._listed) if self._listed else Col()

    def steps(self, lake: Lake, state: State) -> Steps:
        local: Col = state.procs[self.slot]
        yield from getattr(self, f"_{local.at}")(lake, state, local)

    def _survey(self, lake: Lake, state: State, local: Col) -> Steps:
        for status, names in state.refs:
            if status == PENDING:
                local = self._count(lake, state, local, names)
        contents = [lake.contents[n] for n, (status, _) in enumerate(state.refs) if status == COMMITTED]
        kept = lake.bits(content for content in contents if content != NOTHING)
        local = local._replace(kept=local.kept | kept, records=self._records(state))
        yield "reads claims and records", put(state, self.slot, local._replace(at="list"))

    def _list(self, lake: Lake, state: State, local: Col) -> Steps:
        noted = lake.bits(content for recipe, content in lake.content.items() if lake.opened(state, recipe))
        local = self._count(lake, state, local._replace(noted=noted), local.kept)
        queue = tuple(key for key, form in enumerate(state.live) if form and not local.kept >> key & 1)
        local = self._condemning(local._replace(queue=queue, copies=state.condemned if lake.rules.adopt else ()))
        yield "lists the copies and follows recipes", put(state, self.slot, local)

    def _condemning(self, local: Col) -> Col:
        if local.queue:
            return local._replace(at="condemn")
        return local._replace(at="claims") if local.copies else Col("done")

    def _condemn(self, lake: Lake, state: State, local: Col) -> Steps:
        key, *queue = local.queue
        local = local._replace(queue=tuple(queue))
        form = state.live[key]
        if form:
            label = f"condemns {lake.form_names[form]}~{self.batch}"
            local = local._replace(copies=((key, self.batch, form), *local.copies))
            yield label, put(lake.condemn(state, key, self.batch), self.slot, self._condemning(local))
        else:
            yield f"finds {lake.keys[key]} gone", put(state, self.slot, self._condemning(local))

    def _claims(self, lake: Lake, state: State, local: Col) -> Steps:
        for status, names in state.refs:
            if status == PENDING:
                local = self._count(lake, state, local, names)
        yield "rechecks claims", put(state, self.slot, local._replace(at="newer"))

    def _newer(self, lake: Lake, state: State, local: Col) -> Steps:
        for number, (status, names) in enumerate(state.refs):
            if status in (COMMITTED, DELETED) and not local.records >> number & 1:
                local = self._count(lake, state, local, names)
        local = self._count_condemned(lake, state, local)
        at = "barrier" if lake.power else "settle"
        local = local._replace(at=at, records=self._records(state))
        yield "rechecks records", put(state, self.slot, local)

    def _records(self, state: State) -> int:
        known = [number for number, (status, _) in enumerate(state.refs) if status in (COMMITTED, DELETED)]
        return sum(1 << number for number in known)

    def _count(self, lake: Lake, state: State, local: Col, names: int) -> Col:
        """Count these keys, and all that they need as far as it is stored now."""
        kept, followed, waiting = local.kept | names, local.followed, lake.keys_in(names)
        if not lake.rules.follow_new and local.at != "list":
            return local._replace(kept=kept)
        while waiting:
            key = waiting.pop()
            kept |= 1 << key
            if key in lake.content:
                key = lake.content[key]
            if key in lake.recipes:
                if local.noted >> key & 1:
                    kept |= lake.bits(lake.recipes[key])
                    waiting += self._named(lake, state, key)
            elif not followed >> key & 1:
                followed |= bool(lake.opened(state, key)) << key
                waiting += self._needs(lake, state, key)
                if not lake.opened(state, key) and key in lake.twins and lake.opened(state, lake.twins[key]):
                    waiting.append(lake.twins[key])
        return local._replace(kept=kept, followed=followed)

    def _named(self, lake: Lake, state: State, content: int) -> list[int]:
        """What the recipes of a content name."""
        found = [recipe for recipe in lake.recipes[content] if lake.opened(state, recipe)]
        if not lake.rules.follow_both_recipes:
            found = found[:1]
        return [part for recipe in found for part in self._needs(lake, state, recipe)]

    def _needs(self, lake: Lake, state: State, key: int) -> tuple[int, ...]:
        return lake.needs[lake.opened(state, key)]

    def _count_condemned(self, lake: Lake, state: State, local: Col) -> Col:
        """Count what condemned copies of needed parts need, and the live copies beside them."""
        before = None
        while before != local and lake.rules.follow_every_copy:
            before = local
            for key, _, form in state.condemned:
                if lake.is_part(key) and local.kept >> key & 1:
                    for each in (form, state.live[key]):
                        local = self._count(lake, state, local, lake.bits(lake.needs[each]))
        return local

    def _barrier(self, lake: Lake, state: State, local: Col) -> Steps:
        after = lake.logs_synced(state, range(len(state.refs)))
        if lake.rules.form_barrier:
            after = lake.synced(after, local.followed)
        yield "makes what it read durable", put(after, self.slot, local._replace(at="settle"))

    def _settle(self, lake: Lake, state: State, local: Col) -> Steps:
        if not local.copies:
            yield "ends", put(state, self.slot, Col("done"))
            return
        copy, *copies = local.copies
        done = put(state, self.slot, local._replace(copies=tuple(copies)) if copies else Col("done"))
        name = f"{lake.form_names[copy[2]]}~{copy[1]}"
        if copy not in state.condemned:
            yield f"finds {name} gone", done
        elif not local.kept >> copy[0] & 1:
            yield f"removes {name}", lake.without(done, copy)
        elif not state.live[copy[0]]:
            yield f"restores {name}", lake.with_live(lake.without(done, copy), copy[0], copy[2])
        elif (
            not lake.is_part(copy[0])
            or not lake.rules.keep_better
            or lake.needs[state.live[copy[0]]] in ((), lake.needs[copy[2]])
        ):
            yield f"drops {name}: another is live", lake.without(done, copy)
        else:
            yield from self._better(lake, state, done, copy, name)

    def _better(self, lake: Lake, state: State, done: State, copy: tuple[int, int, int], name: str) -> Steps:
        """A live copy needs something that the condemned one does not."""
        key = copy[0]
        whole = lake.whole_form(key)
        if lake.readable_part(state, key):
            yield f"stores {lake.form_names[whole]} anew", lake.with_live(state, key, whole)
        else:
            yield f"leaves {name}", done

    def _done(self, lake: Lake, state: State, local: Col) -> Steps:
        return iter(())
