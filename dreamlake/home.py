"""What a lake has besides records and blobs: a place for parameters, logs and tracks, settings, and an identity.

Owns the promises; implementations are ``folder_home`` (documented folders that people read) and ``remote_home`` (a
database). ``Lake`` and everything above it work on any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dreamlake.journal import Journal
    from dreamlake.model import SessionInfo, SessionKey
    from dreamlake.operations.context import Store
    from dreamlake.operations.findings import Finding

__all__ = ["Home"]


class Home(Protocol):
    """Where a lake lives.

    Attributes:
        root: the folder that holds the documented trees, or None where there is none.
        where: what to call the place in messages; never with a secret.
    """

    @property
    def root(self) -> str | None: ...

    @property
    def where(self) -> str: ...

    def journal(self, key: SessionKey) -> Journal:
        """Parameters, logs and tracks of a session."""
        ...

    def session_folder(self, key: SessionKey) -> str | None:
        """The documented folder of a session, or None where there are none."""
        ...

    def prepare(self, key: SessionKey, *, new: bool) -> Callable[[], None]:
        """Make sure that the session's name can be used here, before anything is committed for it.

        Returns what takes back what was made. Raises ``InvalidInput`` when something is in the way.
        """
        ...

    def show(self, info: SessionInfo) -> None:
        """Write what is known of a session for people to read, if it is missing or differs; atomic."""
        ...

    def configure(self, settings: dict[str, Any]) -> None:
        """Change settings of the lake, durably; others stay."""
        ...

    def check_identity(self, store_id: str) -> None:
        """Raises ``UnsupportedFormat`` when another store has taken this one's place since it was opened."""
        ...

    def sweep(self) -> None:
        """Remove what creations of a store left behind whose process is dead."""
        ...

    def check_sessions(self, existing: Iterable[SessionKey]) -> list[Finding]:
        """What is wrong with the places of all sessions, given those that exist. Looks only."""
        ...

    def check_session(self, key: SessionKey) -> list[Finding]:
        """The same for one session."""
        ...

    def opener(self) -> Callable[[], Store] | None:
        """Opens the store in another process; None when only this one can."""
        ...

    def close(self) -> None:
        """Give back connections; may be repeated."""
        ...
