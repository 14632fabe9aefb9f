"""A lake in a database and an object store, and its people: those of ``coded``, in a world without a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any
from unittest import mock

from dreamlake.blobs import documents as copy_documents
from dreamlake.blobs import objects as object_blobs
from dreamlake.blobs import publishing, sending
from dreamlake.blobs.objects import ObjectBlobs
from dreamlake.catalog import documents as record_documents
from dreamlake.catalog.documents import DocumentCatalog
from dreamlake.errors import OutcomeUnknown, Unavailable
from dreamlake.operations.context import Store
from dreamlake.ports import Owner
from simulation import coded
from simulation.campaign import Campaign
from simulation.coded import CodedWorld
from simulation.miniatures import PARTS, AtOnce
from simulation.remote_judge import RemoteJudge
from simulation.scheduler import Process, changes
from simulation.simfs import SimFs
from simulation.simservices import SimDocs, SimObjects
from simulation.world import World, furnish, sim_ports

PUT_BYTES, PART_BYTES = 600, 512  # a whole part of a miniature goes in three pieces


@contextmanager
def small() -> Iterator[None]:
    """Uploads in pieces begin early, and nothing runs in threads."""
    with ExitStack() as stack:
        for home, name, value in (
            (sending, "ThreadPoolExecutor", AtOnce),
            (object_blobs, "ThreadPoolExecutor", AtOnce),
            (sending, "PUT_BYTES", PUT_BYTES),
            (publishing, "PUT_BYTES", PUT_BYTES),
            (sending, "part_bytes", lambda size: PART_BYTES),
        ):
            stack.enter_context(mock.patch.object(home, name, value))
        yield


class RemoteActor:
    """One simulated process: its identity, and its own view of the lake."""

    def __init__(self, docs: SimDocs, objects: SimObjects, number: int, *, stale: Callable[[Owner], bool]) -> None:
        ports = sim_ports(SimFs(), number, stale)
        self.blobs = ObjectBlobs(ports, docs, objects)
        self.store = Store(ports=ports, catalog=DocumentCatalog(ports, docs), blobs=self.blobs)


class Remote(World):
    """Mixin: the same people in another world. ``fine``: every scan is one document at a time."""

    judge: RemoteJudge
    furnish = staticmethod(furnish)

    def __init__(self, *people: str, fine: bool = False, **options: Any) -> None:
        super().__init__(*people, **{"power": False, **options})
        self.docs.fine = fine
        self.docs.hook = self.objects.hook = self.scheduler._call
        self.scheduler.failure = self._failure

    def lay_out(self, lake: str, fs: SimFs | None) -> None:
        docs, objects = remote_base(lake, self.furnish)
        self.fs, self.docs, self.objects = SimFs(), docs.copy(), objects.copy_of()

    def make_judge(self, power: bool) -> RemoteJudge:
        return RemoteJudge(self.docs, self.objects, PARTS)

    def make_actor(self) -> Any:
        made = RemoteActor(self.docs, self.objects, next(self.numbers), stale=self.stale)
        if self.scheduler.running is None:
            made.blobs.resume_s = -1.0  # at the end nobody takes up what the dead have begun
        return made

    def _failure(self, call: str, path: str, code: int, happened: bool) -> Exception:
        return OutcomeUnknown(f"{call} {path}") if happened and changes(call) else Unavailable(f"{call} {path}")

    # ---- running ---------------------------------------------------------------------------------------------------

    def _hidden(self, call: str, path: str, other: str) -> bool:
        return False

    def _detail(self, call: str, path: str, other: str) -> bool:
        """What is looked up between two changes, or two steps of a scan, is looked up at once."""
        return call == "read"

    def _watch(self, process: Process, call: str, path: str, other: str) -> None:
        """I5: whose claim was taken away by somebody else before it was committed."""
        if not path.startswith("docs/records/"):
            return
        token = path.rpartition("/")[2]
        if call == "insert":
            self._claimants.setdefault(token, process)
        claim = self.docs.tables["records"].get(token, {})
        if call == "delete" and claim.get("open") and self._claimants.get(token) is not process:
            self.judge.revoked.add(token)

    def check_left_over(self) -> None:
        self.judge.check_left_over()

    def state(self) -> int:
        records = frozenset((i, doc["state"], doc.get("n")) for i, doc in self.docs.tables["records"].items())
        copies = frozenset((i, doc["state"], doc.get("batch")) for i, doc in self.docs.tables["copies"].items())
        acked = frozenset(self.judge.acked)
        return hash((records, copies, frozenset(self.objects.held), frozenset(self.objects.open_uploads), acked))


class RemoteWorld(Remote):
    """Plain contents: see ``world``."""


class RemoteCodedWorld(Remote, CodedWorld):
    """Recipes, parts and bases: see ``coded``."""

    furnish = staticmethod(coded.furnish)


class RemoteCampaign(Campaign):
    kind = RemoteWorld


class RemoteCodedCampaign(Campaign):
    kind = RemoteCodedWorld


@lru_cache
def remote_base(lake: str, furnish: Callable[[Store, str], None]) -> tuple[SimDocs, SimObjects]:
    """The lake before the race."""
    docs, objects = SimDocs(), SimObjects()
    docs.ensure([*record_documents.INDEXES, *copy_documents.INDEXES])
    furnish(RemoteActor(docs, objects, 0xFFFF, stale=lambda owner: False).store, lake)
    return docs, objects
