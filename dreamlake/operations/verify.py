"""Verify: are all records there, has every reference its content, is the content what its key says? Changes nothing.

Quick looks at records, presence, sizes and tamper marks. Deep reads every byte. Both may run beside anything else:
what a running upload or collection moves meanwhile is looked at again before it is reported. Work is cut by the first
byte of the key, so it can be divided (``shard``), spread over an executor, and resumed after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import BinaryIO

from dreamlake.blobs import Copy
from dreamlake.content import frame
from dreamlake.content.names import RECIPES, is_coded, twin
from dreamlake.errors import Corrupt, InvalidInput, LakeError, NotFound, UnsupportedFormat
from dreamlake.operations.context import Store
from dreamlake.operations.explaining import explained, record_finding
from dreamlake.operations.findings import Finding, Problem, Verification, merged
from dreamlake.operations.hashing import Opener, Same, Tasks, Verdict, proof
from dreamlake.operations.packed import Packed
from dreamlake.operations.references import Contents, Sessions
from dreamlake.operations.verify_progress import Saved

_SEALED, _LIVE = 1, 2

Progress = Callable[[str, int, int], None]  # phase, done, total (0: not known)


def verify(
    store: Store,
    *,
    deep: bool = False,
    prove: bool = False,
    shard: tuple[int, int] = (1, 1),
    resume: str | None = None,
    executor: Executor | None = None,
    opener: Opener | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Look at a lake and say what is wrong with it.

    Args:
        deep: read and hash every copy, not only its size and tamper mark.
        prove: read and hash those whose tamper mark is broken.
        shard: (I, N): only the I-th of N parts (from 1); all parts together see everything once.
        resume: a file to remember in what was hashed, so that the same call goes on after a crash. It is removed at
            the end; one of another lake, depth or shard is ignored.
        executor: where to hash; processes and other machines need a picklable ``opener``.
        opener: makes the store anew where a task runs; default: this store (threads only).

    Raises:
        InvalidInput: a shard that does not exist.
    """
    part, parts = shard
    if not 1 <= part <= parts:
        raise InvalidInput(f"shard {part}/{parts}: the first number is from 1 to the second")
    report = Verification(deep, shard)
    run = _Run(store, report, prove or deep, progress or (lambda phase, done, total: None))
    run.logs()
    if part == 1:
        run.claims()
        run.extras()
    run.references()
    problems = list(run.copies(resume, executor, opener or Same(store)))
    report.findings += explained(store, problems)
    return report


class _Run:
    def __init__(self, store: Store, report: Verification, prove: bool, progress: Progress) -> None:
        self._store, self._report, self._prove, self._progress = store, report, prove, progress
        self._part, self._parts_of_all = report.shard[0] - 1, report.shard[1]
        self._sizes = Packed(8, max)  # key -> plain bytes, of all referenced blobs
        self._contents = Contents(store.blobs)
        self._parts: set[str] = set()
        self._extra: set[str] = set()  # recipes and parts of contents that are stored whole, too
        self._broken: dict[str, str] = {}  # recipes and parts whose own references do not read

    # ---- records -------------------------------------------------------------------------------------------------

    def logs(self) -> None:
        """Every record of the sessions of this part is there and reads."""
        unreadable: list[LakeError] = []
        sessions = self._store.catalog.sessions(unreadable.append)
        if self._part == 0:
            self._report.findings += [record_finding(error, "") for error in unreadable]
        for done, session in enumerate(sessions):
            self._progress("records", done, len(sessions))
            if int(session.sid[:8], 16) % self._parts_of_all != self._part:
                continue
            self._report.sessions += 1
            try:
                for _ in self._store.catalog.records(session):
                    self._report.records += 1
            except LakeError as error:
                self._report.findings.append(record_finding(error, session.full))

    def claims(self) -> None:
        for token, age_s in self._store.catalog.unreadable():
            self._report.findings.append(Finding("claim-damaged", token, f"{age_s:,.0f} s old"))

    def extras(self) -> None:
        """What lies about without doing harm."""
        for name, space in self._store.blobs.space().items():
            kind = "trash" if name == "condemned" else name
            if name != "live" and space.files:
                self._report.findings.append(
                    Finding(kind, f"{space.files:,} files", count=space.files, bytes=space.size_bytes)
                )

    def references(self) -> None:
        views = Sessions(self._store)
        for session in self._store.catalog.sessions(lambda error: None):
            try:
                for version in views.view(session).kept():
                    self._sizes.add(version.digest, version.size_bytes)
            except LakeError:
                continue  # a finding of ``logs``

    def _expand(self, found: Packed) -> None:
        """Content that is not stored whole needs its recipe, the parts in it and their bases."""
        shard, live, sizes = "", dict[str, set[str]](), dict[bytes, int]()
        for digest in self._contents.recipes():
            if digest[:2] != shard:
                shard = digest[:2]
                live = {form: self._live(found, form + shard) for form in ("", *RECIPES)}
                sizes = self._sizes.table(shard)
            size = sizes.get(bytes.fromhex(digest))
            if size is None:
                continue
            if digest in live[""]:  # then the whole copy is read, and the recipe is not missed
                self._extra.update(self._contents.keys(digest))
                continue
            listed = self._contents.recipe_keys(digest)
            keys = [key for key in listed if key in live[key[:-64]]] or listed
            self._extra.update(listed)
            for key in keys:
                self._sizes.add(key, size)
            try:
                waiting = list(self._contents.parts(digest).items())
            except (LakeError, OSError) as error:
                self._broken[keys[0]] = str(error)
                continue
            self._follow(waiting)

    @staticmethod
    def _live(found: Packed, shard: str) -> set[str]:
        return {key for key, packed in found.rows(shard) if packed & _LIVE}

    def _follow(self, waiting: list[tuple[str, int]]) -> None:
        while waiting:
            key, size = waiting.pop()
            if key in self._parts:
                continue
            self._parts.add(key)
            self._sizes.add(key, size)
            try:
                waiting += self._contents.bases(key)
            except NotFound:
                pass  # it will be missing
            except (LakeError, OSError) as error:
                self._broken[key] = str(error)

    def _mine(self, key: str) -> bool:
        return int(key[-64:-56], 16) % self._parts_of_all == self._part

    # ---- copies --------------------------------------------------------------------------------------------------

    def copies(self, resume: str | None, executor: Executor | None, opener: Opener) -> Iterator[Problem]:
        """Compare what is stored with what is referenced, shard by shard."""
        found = Packed(9)
        for done, copy in enumerate(self._store.blobs.copies()):
            if done % 1000 == 0:
                self._progress("list", done, 0)
            self._contents.note(copy.key)
            self._report.copies += self._mine(copy.key)
            found.add(copy.key, copy.size << 2 | (copy.batch is None) * _LIVE | copy.sealed * _SEALED)
        self._expand(found)
        orphans = [0, 0]
        saved = Saved(self._store, resume, self._report)
        shards = sorted({*found.shards(), *self._sizes.shards()})
        tasks = Tasks(self._store, executor, opener)
        for done, shard in enumerate(shards):
            self._progress("copies", done, len(shards))
            problems, to_hash = self._compare(shard, found, orphans)
            if saved.has(shard):
                problems, to_hash = [], []
            tasks.add(shard, problems, to_hash)
            for finished in tasks.take():
                yield from self._finished(*finished, saved)
        for finished in tasks.take(everything=True):
            yield from self._finished(*finished, saved)
        yield from saved.problems()
        saved.done()
        if orphans[0]:
            self._report.findings.append(Finding("orphan", f"{orphans[0]:,} blobs", count=orphans[0], bytes=orphans[1]))

    def _compare(self, shard: str, found: Packed, orphans: list[int]) -> tuple[list[Problem], list[Copy]]:
        """Problems of one shard that show without reading, and the copies to read."""
        expected = {shard[:-2] + digest.hex(): size for digest, size in self._sizes.table(shard).items()}
        expected = {key: size for key, size in expected.items() if self._mine(key)}
        live: dict[str, Copy] = {}
        condemned: set[str] = set()
        for key, packed in found.rows(shard):
            if not self._mine(key):
                continue
            if packed & _LIVE:
                live[key] = Copy(key, None, packed >> 2, bool(packed & _SEALED))
            else:
                condemned.add(key)
        problems = []
        for key, size in expected.items():
            copy = live.get(key)
            if key in self._broken:
                problems.append(Problem("blob-damaged", key, self._broken[key], size))
            elif copy is None:
                problems += self._absent(key, size, condemned)
            elif not self._report.deep:
                problems += self._quick(copy, size)
        for key, copy in live.items():
            if key not in expected and key not in self._extra:
                orphans[0], orphans[1] = orphans[0] + 1, orphans[1] + copy.size
        to_hash = [copy for copy in live.values() if self._report.deep or (self._prove and not copy.sealed)]
        return problems, sorted(to_hash)

    def _absent(self, key: str, size: int, condemned: set[str]) -> list[Problem]:
        if self._contents.has_recipe(key) and not is_coded(key):
            return []
        try:
            stream = self._store.blobs.open(key)  # it may have moved while the others were listed
        except NotFound:
            if is_coded(key) and self._store.blobs.copies_of(twin(key)):
                return []  # its chain was turned round meanwhile
            return [Problem("blob-missing", key, "", size)]
        with stream:
            if self._report.deep and not _proves(self._store, key, stream):
                return [Problem("blob-damaged", key, "in the trash", size)]
        return [Problem("blob-condemned", key, "", size)] if key in condemned else []

    def _quick(self, copy: Copy, size: int) -> list[Problem]:
        """Size and tamper mark of a live copy; the head of one whose size tells that it is coded."""
        if copy.size != size:
            try:
                with self._store.blobs.open_copy(copy) as stream:
                    head = frame.read_frame(stream, copy.size)
            except NotFound:
                return []
            except (Corrupt, OSError) as error:
                return [Problem("blob-damaged", copy.key, str(error), size)]
            except UnsupportedFormat as error:
                return [Problem("record-newer", copy.key, str(error), size)]
            if head is None or head.plain_size != size:
                return [Problem("blob-damaged", copy.key, f"{copy.size:,} bytes instead of {size:,}", size)]
        if copy.sealed or self._prove:
            return []
        return [Problem("blob-unsealed", copy.key, "their content was not checked", size)]

    def _finished(
        self, shard: str, problems: list[Problem], verdicts: list[Verdict], saved: Saved
    ) -> Iterator[Problem]:
        table = self._sizes.table(shard)
        found, known = list(problems), {problem.key for problem in problems}
        for copy, wrong in verdicts:
            size = table.get(bytes.fromhex(copy.key[-64:]), -1)
            if wrong is None:
                found += self._absent(copy.key, size, set()) if size >= 0 else []
                continue
            self._report.hashed += 1
            self._report.hashed_bytes += copy.size
            if copy.key in known:
                continue
            if wrong:
                found.append(Problem("blob-damaged" if size >= 0 else "orphan-damaged", copy.key, wrong, size))
            elif not copy.sealed and size >= 0:
                found.append(Problem("blob-unsealed", copy.key, "their content is right", size))
        if not saved.has(shard):
            found = merged(found)
            saved.add(shard, found)
            yield from found


def _proves(store: Store, key: str, stream: BinaryIO) -> bool:
    try:
        return proof(store.blobs, key)(stream)
    except (LakeError, OSError):
        return False
