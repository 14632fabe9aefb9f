"""Retention: which older versions of a file may go, declared once and applied by every collection.

Rules are stored with the session (``SessionInfo.extra["retention"]``). A version stays if it is the current one, has
tags, has an alias, or if any rule that matches its path keeps it. A path that no rule matches keeps everything.
Deciding (``evaluate``) is pure; only collection lets go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from dreamlake.catalog.fold import FileState, Fold
from dreamlake.errors import InvalidInput, InvalidType, NotFound, StateError, UnsupportedFormat
from dreamlake.model import SessionKey, Version, below, is_glob
from dreamlake.operations.commit import commit
from dreamlake.operations.context import Store
from dreamlake.operations.durations import age, seconds
from dreamlake.operations.fields import lookup
from dreamlake.operations.globs import path_test
from dreamlake.operations.lineage import plain_aliases
from dreamlake.operations.moments import moment
from dreamlake.ports import iso

MAX_RULES = 256
EVERYTHING = "/**"
_FIELDS = ("path", "last", "best", "by", "order", "every", "younger")
_EXAMPLE = "{'path': '/models/**', 'last': 3, 'best': 2, 'by': 'val_loss', 'order': 'lower', 'younger': '7d'}"


@dataclass(frozen=True)
class Rule:
    """What to keep of the versions of each path that matches ``path``; a version stays if any part keeps it.

    Attributes:
        path: glob on the full path (``**`` crosses folders; no slash: on the file name), or a folder.
        last: that many newest versions.
        best, by, order: that many versions by the number in metadata field ``by``, "higher" or "lower" is better.
        every: versions whose number is a multiple of this.
        younger_s: versions uploaded less than this many seconds ago.
    """

    path: str = EVERYTHING
    last: int | None = None
    best: int | None = None
    by: str | None = None
    order: str | None = None
    every: int | None = None
    younger_s: float | None = None

    def record(self) -> dict[str, Any]:
        """The rule as it is stored; ``parse`` reads it back."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def matches(self, key: str) -> bool:
        return _matcher(self.path)(key)


class Decision(NamedTuple):
    """What becomes of one version that is not deleted, and why: all reasons to keep it, or all that failed to."""

    version: Version
    keep: bool
    reasons: tuple[str, ...]


# ---- declaring ---------------------------------------------------------------------------------------------------


def parse(rules: Any, *, path: str | None = None) -> tuple[Rule, ...]:
    """Checked rules from what a user writes.

    Args:
        rules: a rule or a list of rules, each a mapping of the fields of ``Rule`` (also written with ``keep_`` before
            them; ``younger`` takes "7d", "12h", seconds or a timedelta), or a number: keep that many versions.
            None or an empty list: no rules.
        path: what a rule without a path is about; default everything.

    Raises:
        InvalidInput, InvalidType: with an example of what is meant.
    """
    if rules is None:
        return ()
    if isinstance(rules, (Mapping, Rule)) or not isinstance(rules, Iterable) or isinstance(rules, (str, bytes)):
        rules = [rules]
    made = tuple(_rule(rule, path or EVERYTHING) for rule in rules)
    if len(made) > MAX_RULES:
        raise InvalidInput(f"{len(made)} retention rules; the limit is {MAX_RULES}")
    return made


def _rule(given: Any, path: str) -> Rule:
    if isinstance(given, Rule):
        return given
    if isinstance(given, int) and not isinstance(given, bool):
        return Rule(path, last=_count(given, "last"))
    if not isinstance(given, Mapping):
        raise InvalidType(f"a retention rule is a mapping like {_EXAMPLE}, or a number of versions; not {given!r}")
    fields = {str(k).removeprefix("keep_"): v for k, v in given.items() if v is not None}
    if "younger_s" in fields:
        fields["younger"] = fields.pop("younger_s")
    unknown = sorted(set(fields) - set(_FIELDS))
    if unknown:
        raise InvalidInput(f"unknown field {unknown[0]!r} in a retention rule; the fields are {', '.join(_FIELDS)}")
    if not set(fields) & {"last", "best", "every", "younger"}:
        raise InvalidInput(f"a retention rule says what to keep: last, best, every or younger, e.g. {_EXAMPLE}")
    pattern = fields.get("path", path)
    if not isinstance(pattern, str) or not pattern.strip():
        raise InvalidType(f"the path of a retention rule is a glob like '/models/**', not {pattern!r}")
    path_test(pattern)
    counts = {name: _count(fields[name], name) for name in ("last", "best", "every") if name in fields}
    by, order = fields.get("by"), fields.get("order")
    if "best" in counts and (not isinstance(by, str) or not by or order not in ("higher", "lower")):
        raise InvalidInput(f"best={counts['best']} needs by=<field> and order='higher' or 'lower', e.g. {_EXAMPLE}")
    if "best" not in counts and (by is not None or order is not None):
        raise InvalidInput("by and order say how to rank; how many to keep is best=N")
    younger = seconds(fields["younger"], "younger") if "younger" in fields else None
    return Rule(pattern, counts.get("last"), counts.get("best"), by, order, counts.get("every"), younger)


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(f"{name} is a number of versions, not {value!r}")
    if not 1 <= value <= 1_000_000_000:
        raise InvalidInput(f"{name}={value}: at least 1; the current version always stays")
    return value


def merge(rules: Iterable[Rule], new: Iterable[Rule]) -> tuple[Rule, ...]:
    """``rules`` with ``new`` added; a rule for a pattern replaces earlier ones for the same pattern."""
    added = tuple(new)
    paths = {rule.path for rule in added}
    return (*(rule for rule in rules if rule.path not in paths), *added)


# ---- stored with the session -------------------------------------------------------------------------------------


def rules_of(view: Fold) -> tuple[Rule, ...]:
    """The rules stored with a session. Raises ``UnsupportedFormat`` for rules that this release cannot read."""
    stored = (view.info.extra or {}).get("retention")
    try:
        return parse(stored)
    except (InvalidInput, InvalidType) as error:
        raise UnsupportedFormat(f"session {view.session} has retention rules of a newer release: {error}") from error


def get_rules(store: Store, session: SessionKey) -> tuple[Rule, ...]:
    """The rules of a session. Raises ``NotFound`` for an unknown session."""
    view = store.catalog.view(session)
    if not view.info.exists:
        raise NotFound(f"no session {session}", path=str(session))
    return rules_of(view)


def set_rules(store: Store, session: SessionKey, rules: Any) -> tuple[Rule, ...]:
    """Replace the rules of a session by these (see ``parse``; none: keep everything again), durably.

    Raises:
        NotFound: no such session.  StateError: it is write-protected.
    """
    made = parse(rules)
    view = store.catalog.view(session)
    if not view.info.exists:
        raise NotFound(f"no session {session}", path=str(session))
    if view.info.write_protected:
        raise StateError(f"session {session} is write-protected")
    entry = rules_entry(view, made, iso(store.ports.now()))
    if entry is not None:
        commit(store, session, [entry])
    return made


def rules_entry(view: Fold, rules: Iterable[Rule], at: str) -> dict[str, Any] | None:
    """The record entry that stores these rules with a session; None when they are stored already."""
    stored = [rule.record() for rule in rules]
    if stored == ((view.info.extra or {}).get("retention") or []):
        return None
    return {"op": "session", "at": at, "retention": stored}


def describe(rule: Rule) -> str:
    """One line for people."""
    return f"{rule.path}: keep " + ", ".join(text for _, text in _parts(rule))


def _parts(rule: Rule) -> list[tuple[str, str]]:
    parts = []
    if rule.last is not None:
        parts.append(("last", f"the last {rule.last}"))
    if rule.best is not None:
        parts.append(("best", f"the best {rule.best} by {rule.by} ({rule.order} is better)"))
    if rule.every is not None:
        parts.append(("every", f"every {rule.every}th"))
    if rule.younger_s is not None:
        parts.append(("younger", f"those younger than {age(rule.younger_s)}"))
    return parts


# ---- deciding ----------------------------------------------------------------------------------------------------


def evaluate(fold: Fold, rules: Iterable[Rule], now: datetime) -> list[Decision]:
    """What the rules decide about every version of a session that is not deleted, in no order. Pure."""
    return list(decisions(fold, rules, now))


def decisions(fold: Fold, rules: Iterable[Rule], now: datetime) -> Iterator[Decision]:
    """``evaluate``, one by one."""
    tests = [(rule, _matcher(rule.path)) for rule in rules]
    for state in fold.files():
        kept = [v for v in state.versions if v.deleted_at is None]
        matching = [rule for rule, test in tests if kept and test(kept[-1].key)]
        chosen = [(rule, _kept_by(rule, kept, now)) for rule in matching]
        for version in kept:
            yield _decide(state, version, chosen)


def _decide(state: FileState, version: Version, chosen: list[tuple[Rule, dict[str, dict[str, str]]]]) -> Decision:
    reasons = []
    if version is state.current:
        reasons.append("the current version")
    if version.tags:
        reasons.append(f"tagged {', '.join(version.tags)}")
    named = [name for name, target in sorted(state.aliases.items()) if target == version.id]
    plain = plain_aliases(dict.fromkeys(named))
    reasons += [f"has the alias {name}" for name in plain]
    if len(plain) < len(named):
        reasons.append("is an input of a session")
    if not chosen:
        reasons.append("no rule for this path")
    against = []
    for rule, kept in chosen:
        for part, text in _parts(rule):
            why = kept[part].get(version.id)
            if why is not None:
                reasons.append(f"{rule.path}: {why}")
            else:
                against.append(f"{rule.path}: not among {text}")
    return Decision(version, bool(reasons), tuple(reasons or against))


def _kept_by(rule: Rule, versions: list[Version], now: datetime) -> dict[str, dict[str, str]]:
    """Part of the rule -> id of each version that it keeps -> why. ``versions`` ascend by number."""
    kept: dict[str, dict[str, str]] = {"last": {}, "best": {}, "every": {}, "younger": {}}
    if rule.last is not None:
        kept["last"] = {v.id: f"among the last {rule.last}" for v in versions[-rule.last :]}
    if rule.best is not None and rule.by is not None:
        ranked = [(value, v) for v in versions if _rankable(value := lookup(v.metadata, rule.by))]
        sign = -1 if rule.order == "higher" else 1
        ranked.sort(key=lambda pair: (sign * pair[0], -pair[1].number))  # of equals, the newest
        why = f"among the best {rule.best} by {rule.by}"
        kept["best"] = {v.id: f"{why} ({value!s:.20})" for value, v in ranked[: rule.best]}
    if rule.every is not None:
        kept["every"] = {v.id: f"every {rule.every}th" for v in versions if v.number % rule.every == 0}
    if rule.younger_s is not None:
        after = now - timedelta(seconds=rule.younger_s)
        why = f"younger than {age(rule.younger_s)}"
        kept["younger"] = {v.id: why for v in versions if moment(v.uploaded_at) > after}
    return kept


def _rankable(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _matcher(pattern: str) -> Callable[[str], bool]:
    test = path_test(pattern)
    if is_glob(pattern):
        return test
    prefix = below("/" + pattern.strip("/")) if pattern.strip("/") else "/"
    return lambda key: test(key) or key.startswith(prefix)
