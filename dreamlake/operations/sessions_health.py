"""The documented folders of sessions, which users may remove, move or copy by hand: what is wrong with them?

The truth about a session is in the store; its folder holds parameters, logs and tracks. Looks only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dreamlake import values
from dreamlake.errors import LakeError
from dreamlake.model import SessionKey, session_key
from dreamlake.operations.findings import Finding
from dreamlake.ports import Fs

FolderOf = Callable[[SessionKey], str]


def check_folders(fs: Fs, root: str, sessions: Iterable[SessionKey], folder_of: FolderOf) -> list[Finding]:
    """Compare the folders below ``root`` with the sessions that exist.

    Args:
        sessions: those that exist. folder_of: where the folder of each belongs.
    """
    homes = {key: folder_of(key) for key in sessions}
    strangers = {folder: key for folder, key in _session_folders(fs, root) if homes.get(key) != folder}
    findings = []
    for key, home in homes.items():
        findings += _check_home(fs, key, home, [folder for folder, named in strangers.items() if named == key])
    for folder, key in sorted(strangers.items()):
        if key not in homes:
            findings.append(Finding("session-folder-unknown", folder, f"its session.json names {key}"))
        elif _exists(fs, homes[key]):
            findings.append(Finding("session-folder-copied", folder, f"of {key}, whose own is {homes[key]}"))
    return findings


def check_session(fs: Fs, root: str, key: SessionKey, folder_of: FolderOf) -> list[Finding]:
    """The same for one session: reads only the folders of its own workspace."""
    home = folder_of(key)
    elsewhere = [f for f, named in _workspace_folders(fs, f"{root}/{key.workspace}") if named == key and f != home]
    findings = _check_home(fs, key, home, elsewhere)
    if _exists(fs, home):
        findings += [Finding("session-folder-copied", f, f"of {key}, whose own is {home}") for f in elsewhere]
    return findings


def _check_home(fs: Fs, key: SessionKey, home: str, elsewhere: list[str]) -> list[Finding]:
    if not _exists(fs, home):
        if elsewhere:
            return [Finding("session-folder-moved", home, f"of {key}; it is now {elsewhere[0]}")]
        return [Finding("session-folder-missing", home, f"of {key}; its files are in the store, its logs are not")]
    try:
        data = fs.read(f"{home}/session.json")
    except OSError:
        return [Finding("session-file-missing", f"{home}/session.json", f"of {key}")]
    named = _named(data)
    if named is None:
        return [Finding("session-file-damaged", f"{home}/session.json", f"of {key}")]
    return []


def _session_folders(fs: Fs, root: str) -> Iterator[tuple[str, SessionKey]]:
    for workspace in sorted(_names(fs, root)):
        if not workspace.startswith(".dreamlake"):
            yield from _workspace_folders(fs, f"{root}/{workspace}")


def _workspace_folders(fs: Fs, folder: str) -> Iterator[tuple[str, SessionKey]]:
    for name in sorted(_names(fs, folder)):
        try:
            named = _named(fs.read(f"{folder}/{name}/session.json"))
        except OSError:
            continue
        if named is not None:
            yield f"{folder}/{name}", named


def _named(data: bytes) -> SessionKey | None:
    """The session that a session.json names; None when it does not read."""
    try:
        raw = values.decode(data)
        return session_key(raw["workspace"], raw["name"])
    except (ValueError, KeyError, TypeError, LakeError):
        return None


def _names(fs: Fs, folder: str) -> list[str]:
    try:
        return fs.list(folder)
    except OSError:
        return []


def _exists(fs: Fs, path: str) -> bool:
    try:
        fs.lstat(path)
    except OSError:
        return False
    return True
