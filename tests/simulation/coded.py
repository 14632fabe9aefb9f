"""A small lake of checkpoints in miniature, and the people who work on it: recipes, shared parts, difference bases."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dreamlake.errors import ClaimRevoked, Conflict, NotFound
from dreamlake.model import SessionKey
from dreamlake.operations import optimize as optimizing
from dreamlake.operations import tree, turning
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from simulation.campaign import Campaign
from simulation.coded_judge import CodedJudge
from simulation.miniatures import (
    BASES,
    OF_B,
    OF_C,
    OF_P,
    OF_PR,
    OF_PS,
    P_KEY,
    PARTS,
    RENAMED,
    SHARD,
    B,
    C,
    P,
    code_against,
    committing,
    leave,
    put,
    put_against,
)
from simulation.simfs import SimFs
from simulation.world import KEPT, ROOT, Actor, S, T, World, collecting, empty_lake


class Dying:
    """A catalog whose user's claim is taken away just before the commit, and who gives up then.

    ``lives``: commits that succeed before.
    """

    def __init__(self, catalog: Any, lives: int = 0) -> None:
        self._catalog, self._lives = catalog, lives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def commit(self, claim: Any) -> Any:
        self._lives -= 1
        if self._lives >= 0:
            return self._catalog.commit(claim)
        self._catalog.revoke(claim.token)
        raise ClaimRevoked("died")


class CodedWorld(World):
    """A lake of miniatures and its people. ``lake``: see ``coded_base``."""

    judge: CodedJudge

    def base(self, lake: str) -> SimFs:
        return coded_base(lake, self.checkpoint_every)

    def make_judge(self, power: bool) -> CodedJudge:
        return CodedJudge(self.fs, ROOT, PARTS, power=power)

    # ---- people who upload ---------------------------------------------------------------------------------------

    def _put(self, session: SessionKey, content: bytes, path: str, *, base: bytes | None = None) -> None:
        store, before = self.actor().store, set(self.judge.acked)
        if base is None:
            made = put(store, session, content, path)
        else:
            made = put_against(store, session, content, path, base)
        self._done(session, "put", [made], before)

    def next(self, i: int) -> None:
        """Uploads P, coded against the B of the same session, when that is there."""
        self._put(S, OF_P, f"/next{i}.pt")

    def twin(self, i: int) -> None:
        """Uploads another content with P (and one more part) to the other session; there C may be its base."""
        self._put(T, OF_PS, f"/twin{i}.pt")

    def other(self, i: int) -> None:
        """Uploads a third content with P to the first session."""
        self._put(S, OF_PR, f"/other{i}.pt")

    def renamed(self, i: int) -> None:
        """Uploads a content whose only part is P: where that is stored, nothing is published but the recipe."""
        self._put(T, RENAMED, f"/renamed{i}.pt")

    def forward(self, i: int) -> None:
        """Uploads P as a difference to B."""
        self._put(T, OF_P, f"/forward{i}.pt", base=B)

    def backward(self, i: int) -> None:
        """Uploads B as a difference to P."""
        self._put(T, OF_B, f"/backward{i}.pt", base=P)

    def sideways(self, i: int) -> None:
        """Uploads another content with P, as a difference to C."""
        self._put(T, OF_PR, f"/sideways{i}.pt", base=C)

    # ---- people who change the tree ------------------------------------------------------------------------------

    def _delete(self, path: str) -> None:
        store, before = self.actor().store, set(self.judge.acked)
        try:
            self._done(S, "del", tree.delete(store, S, tree.select(store.catalog.view(S), path)), before)
        except NotFound:
            assert path not in self.judge.tree(S.sid), "I1: a live file was not found"

    def dele(self, i: int) -> None:
        """Deletes the first version, B."""
        self._delete("/b.pt")

    def delp(self, i: int) -> None:
        """Deletes the version that is a difference to it, P."""
        self._delete("/p.pt")

    def copier(self, i: int) -> None:
        """Copies P into the other session; no bytes in hand."""
        store, before = self.actor().store, set(self.judge.acked)
        live = "/p.pt" in self.judge.tree(S.sid)
        try:
            self._done(T, "put", tree.copy(store, S, "/p.pt", f"/copy{i}.pt", to_session=T), before)
        except NotFound:  # it may have been restored since
            assert not live or "/p.pt" not in self.judge.tree(S.sid), "I1: a live file was not found"

    def restorer(self, i: int) -> None:
        """Brings P back, unless it was collected."""
        store, before = self.actor().store, set(self.judge.acked)
        try:
            self._done(S, "undel", [tree.restore(store, S, "/p.pt")], before)
        except Conflict:
            assert "/p.pt" in self.judge.tree(S.sid), "a deleted file could not be restored"
        except NotFound:
            gone = any(person.startswith("gc") for person in self.people)
            assert gone, "a deleted file nobody collected was not found"

    # ---- people who store things in another form -------------------------------------------------------------------

    def optimizer(self, i: int) -> None:
        """Codes what is stored whole, and drops the whole copies."""
        optimizing.optimize(self.actor().store, sessions=[S], encoding="coded")

    def turner(self, i: int) -> None:
        """Turns the chain of B and P round, as it is or was."""
        turning.turn(self.actor().store, sessions=[S])

    def halfway(self, i: int) -> None:
        """Turns it round, but loses the claim on the second version, B, before its record."""
        store = self.actor().store
        turning.turn(replace(store, catalog=Dying(store.catalog, lives=2)), sessions=[S])

    def lost(self, i: int) -> None:
        """Recodes P, but its claim is taken away before the record."""
        store = self.actor().store
        plain = code_against(store, OF_P, B)
        with suppress(ClaimRevoked):
            committing.recode(replace(store, catalog=Dying(store.catalog)), S, plain)

    def rebaser(self, i: int) -> None:
        """Stores parts without bases that only they need."""
        optimizing.rebase(self.actor().store)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def gc(self, i: int) -> None:
        before = set(self.judge.stored().values())
        super().gc(i)
        after_all = self.scheduler.running is None
        if after_all and not before.issuperset(self.judge.stored().values()):
            super().gc(i)  # the first has stored a part anew: only now is its base free

    def finish(self) -> None:
        super().finish()
        self.judge.check_no_circle()


class CodedCampaign(Campaign):
    kind = CodedWorld


def _delete(store: Store, path: str) -> None:
    tree.delete(store, S, tree.select(store.catalog.view(S), path))


@lru_cache
def coded_base(lake: str, checkpoint_every: int) -> SimFs:
    """The lake before the race, everything durable. ``lake``: see ``furnish``."""
    fs = empty_lake(SHARD, BASES)
    furnish(Actor(fs, 0xFFFF, stale=lambda owner: False, checkpoint_every=checkpoint_every).store, lake)
    fs.sync("/")
    return fs


def furnish(store: Store, lake: str) -> None:
    """What is in the lake: in ``s`` lie /b.pt (B) and, as a difference to it, /p.pt (P).

    ``lake``, in words:
        first: only /b.pt.  chain: both.  gone: both, deleted.  base gone: /b.pt was collected, only P still needs B.
        whole: /p.pt is a whole copy.  whole, base garbage: likewise, and /b.pt is deleted.
        choice: both deleted; ``t`` has /c.pt (C), to which P may be coded as well.
        pair: B and P whole, as garbage.
        turned: both, and P stands alone.  turned, slots taken: likewise, and nothing was collected since.
        left: only /p.pt, whose part P a dead collection has condemned; C is garbage.
    """
    for session in (S, T):
        commit(store, session, [{"op": "session"}])
    put(store, T, KEPT, "/kept")
    if lake == "pair":
        leave(store, B)
        leave(store, P)
    else:
        put(store, S, OF_B, "/b.pt")
    if lake.startswith("whole"):
        put(store, S, OF_P, "/p.pt", encoding="raw")
    elif lake not in ("pair", "first"):
        put(store, S, OF_P, "/p.pt")
    if lake in ("gone", "base gone", "choice", "left", "whole, base garbage"):
        _delete(store, "/b.pt")
    if lake in ("gone", "choice"):
        _delete(store, "/p.pt")
    if lake == "base gone":
        collecting.collect(store, now=True, keep_deleted_s=0, force=True)
    if lake.startswith("turned"):
        assert turning.turn(store, sessions=[S]).versions == 2
    if lake == "turned":
        collecting.collect(store, now=True, force=True)
    if lake == "choice":
        put(store, T, OF_C, "/c.pt")
    if lake == "left":
        leave(store, C)
        store.blobs.condemn(P_KEY, "20251231T000000Z-dead")
