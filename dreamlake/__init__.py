"""dreamlake: a content-addressed artifact store with a Session API for machine-learning training scripts.

Example::

    from dreamlake import Session

    with Session("run-1", "vision") as session:
        session.files().upload("model.pth", path="/models", tags=["best"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamlake.checkpoints import scan
    from dreamlake.errors import (
        AccessDenied,
        Conflict,
        Corrupt,
        InvalidInput,
        InvalidType,
        LakeError,
        NotFound,
        StateError,
        Unavailable,
        UnsupportedFormat,
    )
    from dreamlake.lake import Lake, open_lake
    from dreamlake.session import Session, dreamlake_session

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "Conflict",
    "Corrupt",
    "InvalidInput",
    "InvalidType",
    "Lake",
    "LakeError",
    "NotFound",
    "Session",
    "StateError",
    "Unavailable",
    "UnsupportedFormat",
    "dreamlake_session",
    "open_lake",
    "scan",
]

_HOMES = {
    "Session": "session", "dreamlake_session": "session", "Lake": "lake", "open_lake": "lake", "scan": "checkpoints",
}  # fmt: skip


def __getattr__(name: str) -> Any:  # PEP 562: `import dreamlake` stays cheap for tools that only want the version
    if name not in __all__:
        raise AttributeError(f"module 'dreamlake' has no attribute {name!r}")
    value = getattr(import_module(f"dreamlake.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
