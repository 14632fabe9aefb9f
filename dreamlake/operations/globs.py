"""Shell patterns, on logical paths and on other text."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from dreamlake.errors import InvalidInput, InvalidType


def text_test(pattern: str) -> Callable[[str], bool]:
    """Does a text match this shell pattern as a whole? ``*`` stands for anything, slashes included."""
    compiled = re.compile(fnmatch.translate(pattern))
    return lambda text: compiled.match(text) is not None


def path_test(pattern: str) -> Callable[[str], bool]:
    """Does a full logical path match this shell pattern? Without a slash it is matched against the file name.

    ``*`` and ``?`` stay inside one folder, ``**`` crosses folders. Raises ``InvalidInput`` for a malformed pattern.
    """
    if not isinstance(pattern, str):
        raise InvalidType(f"a glob is text, not {type(pattern).__name__}")
    if "/" not in pattern:
        return lambda key: fnmatch.fnmatchcase(key.rpartition("/")[2], pattern)
    full = pattern if pattern.startswith("/") else "/" + pattern
    out, i = [], 0
    while i < len(full):
        if full.startswith("**/", i):
            out.append("(?:.*/)?")
            while full.startswith("**/", i):  # several in a row say no more, and would take for ever to try
                i += 3
        elif full.startswith("**", i):
            out.append(".*")
            i += 2
        elif full[i] == "*":
            out.append("[^/]*")
            i += 1
        elif full[i] == "?":
            out.append("[^/]")
            i += 1
        elif full[i] == "[" and (end := full.find("]", i + 3 if full[i + 1 : i + 2] == "!" else i + 2)) > 0:
            one = fnmatch.translate(full[i : end + 1])  # "(?s:" and one character class and ")" and an anchor
            out.append("(?!/)" + one[len("(?s:") : one.rindex(")")])
            i = end + 1
        else:
            out.append(re.escape(full[i]))
            i += 1
    try:
        compiled = re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise InvalidInput(f"pattern {pattern!r} is not a glob: {error}") from None
    return lambda key: compiled.fullmatch(key) is not None
