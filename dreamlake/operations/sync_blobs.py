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

from dreamlake.content import codecs, frame, reading, recipe
from dreamlake.content.assembled import (
    MAX_RECIPE_BYTES,
    part_head,
    part_needs,
    read_recipe,
    recipe_key,
    stored_copies,
    stored_part,
)
from dreamlake.content.ingest import Form
from dreamlake.content.presence import rely, rely_on_part, rely_on_recipe
from dreamlake.errors import ClaimRevoked, Corrupt, NotFound
from dreamlake.operations.context import Store

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
        self._lock = threading.Lock()
        self.sent_bytes = self.sent_blobs = 0

    def plan(self, contents: Iterable[Content]) -> list[Parcel]:
        """Look for contents in the target (a hint), and say what would be sent of those it lacks.

        Raises ``Corrupt`` for parts of the source that need each other in a circle.
        """
        self._how.clear()
        asked = list(dict.fromkeys(contents))
        stored = self._pool.map(lambda content: rely(self._target, *content, resurrect=False), asked)
        parcels = [Parcel(*content, found) for content, found in zip(asked, stored, strict=True)]
        planned: dict[str, tuple[Form, int]] = {}
        for parcel in parcels:
            if parcel.found is None:
                self._open(parcel, planned)
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
        for parcel, seen in zip(known, self._pool.map(self._rely, known), strict=True):
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
            for parcel, form in wave:
                self._place(parcel, form, claimed)
        finally:
            for job in work:
                job.cancel()
            wait(work)
            for form in wanted:
                form.discard()

    def _place(self, parcel: Parcel, form: Form, claimed: set[str]) -> None:
        seen = self._look(parcel, form)
        if seen is None and form.staged is not None:
            if self._target.publish(form.key, form.staged, replace=not form.bases):
                form.staged = form.stager = None
                return
            seen = self._look(parcel, form)  # somebody was quicker
        if seen is None or not claimed.issuperset(seen):
            raise ClaimRevoked(f"blob {form.key} is stored in another form than claimed")

    def _rely(self, parcel: Parcel) -> list[str] | None:
        return rely(self._target, parcel.digest, parcel.size)

    def _look(self, parcel: Parcel, form: Form) -> list[str] | None:
        if form.key == parcel.digest:
            found = self._target.look(form.key, form.size, reading.proof(form.key))
            return [form.key] if found else None
        if form.key == recipe_key(parcel.digest):
            return rely_on_recipe(self._target, parcel.digest, parcel.size)
        return rely_on_part(self._target, form.key, form.size)

    # ---- what to send --------------------------------------------------------------------------------------------

    def _open(self, parcel: Parcel, planned: dict[str, tuple[Form, int]]) -> None:
        """Which forms a content needs: its recipe with its parts, or its bytes."""
        digest, size = parcel.digest, parcel.size
        try:
            for part in read_recipe(self._source, digest, size).parts:
                self._part(parcel, planned, part.key, part.size, codecs.MAX_DEPTH)
        except NotFound:  # stored whole, or parts are missing
            parcel.forms = {digest: self._form(digest, size, self._stage_whole)}
            return
        parcel.forms[recipe_key(digest)] = self._form(recipe_key(digest), -1, self._stage_recipe)

    def _part(self, parcel: Parcel, planned: dict[str, tuple[Form, int]], key: str, size: int, left: int) -> int:
        """Add a part, after the bases that it needs; returns how deep it will be in the target."""
        if key not in planned:
            planned[key] = self._plan_part(parcel, planned, key, size, left)
        form, depth = planned[key]
        parcel.forms.setdefault(key, form)
        return depth

    def _plan_part(
        self, parcel: Parcel, planned: dict[str, tuple[Form, int]], key: str, size: int, left: int
    ) -> tuple[Form, int]:
        chain = rely_on_part(self._target, key, size, resurrect=False)
        if chain is not None:
            reference = codecs.base_of(part_head(self._target, key))
            return Form(key, size, needs=tuple(chain)), reference.depth if reference else 0
        if left < 0:
            raise Corrupt(f"more than {codecs.MAX_DEPTH} differences on top of each other at {key}", path=key)
        reference = codecs.base_of(part_head(self._source, key))
        if reference is None:
            return self._form(key, size, self._stage_part), 0
        needs = part_needs(self._source, key)
        try:
            depths = [self._part(parcel, planned, *need, left - 1) for need in needs]
        except NotFound:  # a base is gone, yet another copy of this part may need others
            return self._form(key, size, self._stage_alone), 0
        chain = list(dict.fromkeys(k for need in needs for k in (need[0], *planned[need[0]][0].needs)))
        if max(depths) >= reference.depth or len(chain) >= codecs.MAX_READS:  # deeper there than here
            return self._form(key, size, self._stage_alone), 0
        form = self._form(key, size, self._stage_part)
        form.bases, form.needs = tuple(needs), tuple(chain)
        return form, reference.depth

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
            stored = frame.read_up_to(stream, MAX_RECIPE_BYTES)
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
