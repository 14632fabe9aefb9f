"""Contents on their way from one lake into another: in the form in which they are stored, and only what is missing.

A content that is stored as parts goes as parts: those that the target lacks, as they are, with the bases that they
need. Every byte is proven before it is published: a whole content by its digest, a part by decoding it, a recipe by
its checksum. What comes into the target does so by the protocol: a claim that names everything, then looks, then what
is missing is published, bases before what needs them (SPEC "Protocol", R1, R2, R10).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from dreamlake.blobs import Ready, Wanted
from dreamlake.content import codecs, frame, reading, recipe
from dreamlake.content.assembled import MAX_RECIPE_BYTES, find_recipe, part_head, stored_copies, stored_part
from dreamlake.content.ingest import Form
from dreamlake.content.names import is_part, is_recipe
from dreamlake.content.presence import rely_all, rely_on_part, rely_on_parts, rely_on_recipes
from dreamlake.errors import ClaimRevoked, Corrupt, NotFound
from dreamlake.operations.context import Store
from dreamlake.rawio import read_up_to

WAVE_BYTES = 128 << 20  # plain bytes that are staged before they are published: what a killed run loses at most
WAVE_BLOBS = 256

Content = tuple[str, int]  # digest, plain bytes


@dataclass
class Parcel:
    """One content: ``found`` the blobs in which the target has it, or the forms to send, each after what it needs."""

    digest: str
    size: int
    found: list[str] | None = None
    forms: dict[str, Form] = field(default_factory=dict)  # by key

    def named(self) -> list[str]:
        """What a claim has to name."""
        if self.found is not None:
            return self.found
        needed = [key for form in self.forms.values() for key in (form.key, *form.needs)]
        return list(dict.fromkeys([self.digest, *needed]))


class Courier:
    """Carries contents from one store into another.

    Args:
        pool: threads that look, read and prove; most of the time they wait for disks and networks.
        told: called with plain bytes as they are staged.

    Attributes:
        sent_bytes, sent_blobs: what was staged so far, as stored.
    """

    def __init__(self, source: Store, target: Store, pool: ThreadPoolExecutor, told: Callable[[int], None]) -> None:
        self._source, self._target, self._pool, self._told = source.blobs, target.blobs, pool, told
        self._how: dict[str, Callable[[Form], None]] = {}  # key -> how to stage it
        self._planned: dict[str, Form] = {}  # parts of this plan
        self._depths: dict[str, int] = {}
        self._chains: dict[Content, list[str] | None] = {}
        self._heads: dict[str, bytes | None] = {}
        self._lock = threading.Lock()
        self.sent_bytes = self.sent_blobs = 0

    def plan(self, contents: Iterable[Content]) -> list[Parcel]:
        """Look for contents in the target (a hint), and say what would be sent of those it lacks.

        Raises ``Corrupt`` for parts of the source that need each other in a circle.
        """
        asked = list(dict.fromkeys(contents))
        parcels = [
            Parcel(*content, found)
            for content, found in zip(asked, rely_all(self._target, asked, resurrect=False), strict=True)
        ]
        missing = [parcel for parcel in parcels if parcel.found is None]
        recipes = list(self._pool.map(self._recipe, missing))
        parts = [(part.key, part.size) for found in recipes if found is not None for part in found[1].parts]
        self._how, self._planned, self._depths = {}, {}, {}
        self._chains = rely_on_parts(self._target, parts, resurrect=False)
        absent = [key for (key, _), chain in self._chains.items() if chain is None]
        self._heads = dict(zip(absent, self._source.heads(absent), strict=True))
        for parcel, found in zip(missing, recipes, strict=True):
            self._open(parcel, found)
        return parcels

    def deliver(self, parcels: Sequence[Parcel], alive: Callable[[], None]) -> None:
        """Publish what is missing, after a claim that names all that these name. Durable when it returns.

        Args:
            parcels: all that the last ``plan`` returned.
            alive: called now and then, to show that the claim is.

        Raises:
            ClaimRevoked: a content turns out to be stored otherwise than claimed: plan again.
            NotFound, Corrupt: the source does not have one of them, or not whole. What was published stays.
        """
        claimed = {key for parcel in parcels for key in parcel.named()}
        known = [parcel for parcel in parcels if parcel.found is not None]
        for parcel, seen in zip(known, rely_all(self._target, [(p.digest, p.size) for p in known]), strict=True):
            if seen is None or not claimed.issuperset(seen):
                raise ClaimRevoked(f"content {parcel.digest} is stored in another form than claimed")
        forms = {form.key: (parcel, form) for parcel in parcels for form in parcel.forms.values()}
        for wave in _waves(list(forms.values())):
            self._send(wave, claimed)
            alive()
        self._target.barrier(sorted(claimed))

    def _send(self, wave: list[tuple[Parcel, Form]], claimed: set[str]) -> None:
        wanted = [form for _, form in wave if form.key in self._how]
        work = [self._pool.submit(self._how[form.key], form) for form in wanted]
        try:
            for job in work:
                job.result()
            self._target.secure([form.staged for form in wanted if form.staged is not None])
            self._place(wave, claimed)
        finally:
            for job in work:
                job.cancel()
            wait(work)
            for form in wanted:
                form.discard()

    def _place(self, wave: list[tuple[Parcel, Form]], claimed: set[str]) -> None:
        """Publish what a look does not find: first what stands alone, then what needs that, recipes last."""
        recipes = [pair for pair in wave if is_recipe(pair[1].key)]
        others = [pair for pair in wave if not is_recipe(pair[1].key)]
        levels: dict[int, list[tuple[Parcel, Form]]] = {}
        for pair in others:
            levels.setdefault(self._depths.get(pair[1].key, 0) if pair[1].bases else 0, []).append(pair)
        for group in [*(levels[depth] for depth in sorted(levels)), recipes]:
            seen = self._look(group)
            lacking = [form for (_, form), chain in zip(group, seen, strict=True) if chain is None]
            ready = [Ready(f.key, f.staged, not f.bases) for f in lacking if f.staged is not None]
            published = {r.key for r, done in zip(ready, self._target.publish_all(ready), strict=True) if done}
            for form in lacking:
                if form.key in published:
                    form.staged = form.stager = None
            late = [pair for pair in group if pair[1] in lacking and pair[1].key not in published]
            told = [chain for chain in seen if chain is not None] + self._look(late)  # somebody was quicker
            if any(chain is None or not claimed.issuperset(chain) for chain in told):
                raise ClaimRevoked("a content is stored in another form than claimed")

    def _look(self, group: list[tuple[Parcel, Form]]) -> list[list[str] | None]:
        blobs = self._target
        parts = rely_on_parts(blobs, [(form.key, form.size) for _, form in group if is_part(form.key)])
        whole = [form for parcel, form in group if form.key == parcel.digest]
        hits = blobs.look_all([Wanted(form.key, form.size, reading.proof(form.key)) for form in whole])
        recipes = [(form.key, parcel.digest, parcel.size) for parcel, form in group if is_recipe(form.key)]
        found: dict[str, list[str] | None] = {key: chain for (key, _), chain in parts.items()}
        found.update((form.key, [form.key] if hit else None) for form, hit in zip(whole, hits, strict=True))
        listed = rely_on_recipes(blobs, [(digest, size) for _, digest, size in recipes])
        found.update((key, keys) for (key, _, _), keys in zip(recipes, listed, strict=True))
        return [found[form.key] for _, form in group]

    # ---- what to send --------------------------------------------------------------------------------------------

    def _recipe(self, parcel: Parcel) -> tuple[str, recipe.Recipe] | None:
        """Where the source has a recipe, and the recipe."""
        try:
            return find_recipe(self._source, parcel.digest, parcel.size)
        except NotFound:
            return None  # stored whole

    def _open(self, parcel: Parcel, found: tuple[str, recipe.Recipe] | None) -> None:
        """Which forms a content needs: its recipe with its parts, or its bytes."""
        try:
            for part in found[1].parts if found is not None else ():
                self._part(parcel, part.key, part.size, codecs.MAX_DEPTH)
        except NotFound:  # parts are missing: perhaps it is stored whole, too
            found = None
        if found is None:
            parcel.forms = {parcel.digest: self._form(parcel.digest, parcel.size, self._stage_whole)}
        else:
            parcel.forms[found[0]] = self._form(found[0], -1, self._stage_recipe)

    def _part(self, parcel: Parcel, key: str, size: int, left: int) -> Form:
        """Add a part, after the bases that it needs."""
        if key not in self._planned:
            self._planned[key] = self._plan_part(parcel, key, size, left)
        form = self._planned[key]
        for base in form.bases:  # planned for another content, it brings its bases along
            self._part(parcel, *base, left - 1)
        return parcel.forms.setdefault(key, form)

    def _plan_part(self, parcel: Parcel, key: str, size: int, left: int) -> Form:
        asked = (key, size)
        chain = self._chains[asked] if asked in self._chains else rely_on_part(self._target, *asked, resurrect=False)
        if chain is not None:
            return Form(key, size, needs=tuple(chain))
        if left < 0:
            raise Corrupt(f"more than {codecs.MAX_DEPTH} differences on top of each other at {key}", path=key)
        reference = codecs.base_of(self._heads.get(key) or part_head(self._source, key))
        if reference is None:
            return self._form(key, size, self._stage_part)
        bases = [(reference.key, reference.size), *([reference.before] if reference.before else [])]
        try:
            forms = [self._part(parcel, *base, left - 1) for base in bases]
        except NotFound:  # a base is gone, yet another copy of this part may need others
            return self._form(key, size, self._stage_alone)
        chain = list(dict.fromkeys(k for form in forms for k in (form.key, *form.needs)))
        if max(map(self._depth, forms)) >= reference.depth or len(chain) >= codecs.MAX_READS:
            return self._form(key, size, self._stage_alone)  # its bases lie deeper there than here
        form = self._form(key, size, self._stage_part)
        form.bases, form.needs = tuple(bases), tuple(chain)
        self._depths[key] = reference.depth
        return form

    def _depth(self, form: Form) -> int:
        """How deep a part will be in the target."""
        if form.key in self._how:
            return self._depths.get(form.key, 0)
        reference = codecs.base_of(part_head(self._target, form.key))
        return reference.depth if reference else 0

    def _form(self, key: str, size: int, stage: Callable[[Form], None]) -> Form:
        self._how[key] = stage
        return Form(key, size)

    def _count(self, stored: int, plain: int, blobs: int) -> None:
        with self._lock:
            self.sent_bytes += stored
            self.sent_blobs += blobs
        self._told(plain)

    # ---- on the pool ---------------------------------------------------------------------------------------------

    def _stage_whole(self, form: Form) -> None:
        stager = self._target.stage()
        written = 0

        def write(piece: memoryview) -> None:
            nonlocal written
            if not written and frame.is_framed(piece):
                stager.write(frame.raw_header())
            written += len(piece)
            stager.write(piece)
            self._count(len(piece), len(piece), 0)

        try:
            reading.copy_to(self._source, form.key, form.size, write)
            form.staged, form.stager = stager.finish(), stager
        except BaseException:
            stager.discard()
            raise
        self._count(0, 0, 1)

    def _stage_recipe(self, form: Form) -> None:
        with self._source.open(form.key) as stream:
            stored = read_up_to(stream, MAX_RECIPE_BYTES)
        if recipe.decode(stored).sha256 != form.key[-64:]:
            raise Corrupt(f"the recipe {form.key} is of other content", path=form.key)
        self._write(form, [stored])

    def _stage_part(self, form: Form) -> None:
        stored = stored_part(self._source, form.key)
        try:
            self._plain(form, stored)
        except (Corrupt, NotFound):  # this copy leads nowhere; another one may
            form.bases = form.needs = ()
            self._stage_alone(form)
            return
        self._write(form, [stored])

    def _stage_alone(self, form: Form) -> None:
        """A part whose bases lie deeper in the target than in the source: it goes without them."""
        plain = self._plain(form, None)
        self._write(form, codecs.encode_part(plain, codecs.guess_width(plain), effort=0).pieces)

    def _plain(self, form: Form, stored: bytes | memoryview | None) -> bytes:
        """The plain bytes of a part, proven by its key, from exactly these stored bytes where they are given."""

        def fetch(key: str) -> bytes | memoryview:
            return stored if stored is not None and key == form.key else stored_part(self._source, key)

        def others(key: str) -> Iterator[bytes]:
            return iter(()) if stored is not None and key == form.key else stored_copies(self._source, key)

        return bytes(codecs.read_part(form.key, form.size, fetch, others))

    def _write(self, form: Form, pieces: Sequence[bytes | memoryview]) -> None:
        stager = self._target.stage()
        try:
            for piece in pieces:
                stager.write(piece)
            form.staged, form.stager = stager.finish(), stager
        except BaseException:
            stager.discard()
            raise
        self._count(form.staged.size, max(form.size, 0), 1)


def _waves(forms: list[tuple[Parcel, Form]]) -> Iterator[list[tuple[Parcel, Form]]]:
    """Forms in runs that are staged, then published, together."""
    wave: list[tuple[Parcel, Form]] = []
    total = 0
    for parcel, form in forms:
        wave.append((parcel, form))
        total += max(form.size, 0)
        if total >= WAVE_BYTES or len(wave) >= WAVE_BLOBS:
            yield wave
            wave, total = [], 0
    if wave:
        yield wave
