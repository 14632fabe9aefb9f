"""Retention rules: what they may say, and what they decide about the versions of each path."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upkeep_support import DAY_S, OTHER, RUN, World, data_of

from dreamlake.catalog.fold import FileState
from dreamlake.errors import InvalidInput, InvalidType, NotFound, StateError, UnsupportedFormat
from dreamlake.model import Version, literal
from dreamlake.operations import durations, retention
from dreamlake.operations.commit import commit
from dreamlake.operations.retention import Rule, evaluate, parse


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "lake")


def kept(world: World, rules: Any, key: str = "/m.pth") -> list[int]:
    """Numbers of the versions of a path that rules keep."""
    decided = evaluate(world.store.catalog.view(RUN), parse(rules), world.now)
    return sorted(d.version.number for d in decided if d.version.key == key and d.keep)


# ---- what is kept ------------------------------------------------------------------------------------------------


def test_keep_last(world: World) -> None:
    for data in data_of(6):
        world.upload("/m.pth", data)
    assert kept(world, {"last": 3}) == [4, 5, 6]
    assert kept(world, 3) == [4, 5, 6]
    assert kept(world, {"last": 100}) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("order", "expected"), [("lower", [2, 4, 7]), ("higher", [1, 6, 7])])
def test_keep_best_by_a_metadata_field(world: World, order: str, expected: list[int]) -> None:
    for data, loss in zip(data_of(7), [9.0, 1, 3.5, 1, 5, 10**400, "n/a"], strict=True):
        world.upload("/m.pth", data, metadata={"loss": loss})
    assert kept(world, {"best": 2, "by": "loss", "order": order}) == expected  # 7 is the current one


def test_best_of_equals_is_the_newest_and_what_has_no_number_does_not_rank(world: World) -> None:
    values = [{"m": {"acc": 1}}, {"m": {"acc": 1}}, {"m": {"acc": float("nan")}}, {"m": {"acc": True}}, {}, {"m": 3}]
    for data, metadata in zip(data_of(6), values, strict=True):
        world.upload("/m.pth", data, metadata=metadata)
    assert kept(world, {"best": 1, "by": "m.acc", "order": "higher"}) == [2, 6]
    assert kept(world, {"best": 5, "by": "m.acc", "order": "higher"}) == [1, 2, 6]


def test_keep_every(world: World) -> None:
    for data in data_of(7):
        world.upload("/m.pth", data)
    assert kept(world, {"every": 3}) == [3, 6, 7]
    retention.set_rules(world.store, RUN, {"every": 3})
    world.collect(now=True)
    world.upload("/m.pth", b"eighth")
    world.upload("/m.pth", b"ninth")
    assert kept(world, {"every": 3}) == [3, 6, 9]  # numbers do not shift when versions go


def test_keep_younger(world: World) -> None:
    for data in data_of(4):
        world.upload("/m.pth", data)
        world.pass_time(DAY_S)
    for duration in ("2.5d", "60h", 216_000, timedelta(days=2, hours=12)):
        assert kept(world, {"younger": duration}) == [3, 4]
    assert kept(world, {"younger": 0}) == [4]


def test_tagged_aliased_and_current_versions_always_stay(world: World) -> None:
    made = [world.upload("/m.pth", data, tags=["final"] if i == 1 else []) for i, data in enumerate(data_of(5))]
    commit(world.store, RUN, [{"op": "alias", "path": "/m.pth", "name": "best", "id": made[2].id}])
    decided = {d.version.number: d for d in evaluate(world.store.catalog.view(RUN), parse({"every": 100}), world.now)}
    assert {number for number, d in decided.items() if d.keep} == {2, 3, 5}
    assert decided[2].reasons == ("tagged final",)
    assert decided[3].reasons == ("has the alias best",)
    assert decided[5].reasons == ("the current version",)
    assert decided[1].reasons == ("/**: not among every 100th",)


def test_any_matching_rule_keeps_and_unmatched_paths_keep_everything(world: World) -> None:
    for path in ("/models/m.pth", "/logs/l.txt"):
        for data in data_of(6):
            world.upload(path, data + path.encode())
    rules = [{"path": "/models", "last": 1}, {"path": "*.pth", "every": 2}, {"path": "/models/*.txt", "last": 9}]
    assert kept(world, rules, "/models/m.pth") == [2, 4, 6]
    assert kept(world, rules, "/logs/l.txt") == [1, 2, 3, 4, 5, 6]
    (reason,) = {d.reasons for d in _decisions(world, rules) if d.version.key == "/logs/l.txt" and d.version.number < 6}
    assert reason == ("no rule for this path",)


def _decisions(world: World, rules: Any) -> list[Any]:
    return evaluate(world.store.catalog.view(RUN), parse(rules), world.now)


def test_a_rule_counts_each_path_by_itself(world: World) -> None:
    for data in data_of(3):
        world.upload("/a.pth", data)
        world.upload("/b.pth", data)
    assert kept(world, 2, "/a.pth") == kept(world, 2, "/b.pth") == [2, 3]


def test_deleted_versions_are_not_decided_about(world: World) -> None:
    for data in data_of(3):
        world.upload("/m.pth", data)
    world.delete("/m.pth")
    assert evaluate(world.store.catalog.view(RUN), parse(1), world.now) == []


def test_decisions_are_the_same_from_a_checkpoint(world: World) -> None:
    for n in range(40):
        for i, data in enumerate(data_of(4)):
            world.upload(f"/{n}.pth", data, metadata={"loss": (n * 7 + i) % 4})
    commit(world.store, RUN, [{"op": "alias", "path": "/3.pth", "name": "best", "id": _first(world, "/3.pth")}])
    fresh = world.open().store.catalog.view(RUN)
    assert fresh.base is not None
    rules = parse({"last": 1, "best": 1, "by": "loss", "order": "lower"})
    mine = sorted(evaluate(world.store.catalog.view(RUN), rules, world.now), key=lambda d: d.version.seq)
    assert sorted(evaluate(fresh, rules, world.now), key=lambda d: d.version.seq) == mine
    assert sum(d.keep for d in mine) == 71


def _first(world: World, key: str) -> str:
    state = world.store.catalog.view(RUN).file_at(key)
    assert isinstance(state, FileState)
    return state.versions[0].id


class _Fold:
    """Just enough of a fold: one file."""

    def __init__(self, state: FileState) -> None:
        self._state = state

    def files(self) -> list[FileState]:
        return [self._state]


@given(
    losses=st.lists(st.one_of(st.none(), st.floats(), st.integers()), min_size=1, max_size=12),
    last=st.integers(1, 12),
    best=st.integers(1, 12),
    every=st.integers(1, 12),
    higher=st.booleans(),
)
def test_rules_add_up_and_never_touch_the_current_version(
    losses: list[Any], last: int, best: int, every: int, higher: bool
) -> None:
    at = "2026-01-01T00:00:00.000000Z"
    versions = [
        Version(i, "f", "/m", str(i), i, "d" * 64, 1, "t", None, [], {"loss": loss}, at, at, None, None)
        for i, loss in enumerate(losses, 1)
    ]
    fold, now = _Fold(FileState("f", "/m", versions, {})), durations_now()

    def keep(**rule: Any) -> set[int]:
        return {d.version.number for d in evaluate(fold, parse(rule), now) if d.keep}  # type: ignore[arg-type]

    ranking = {"best": best, "by": "loss", "order": "higher" if higher else "lower"}
    together = keep(last=last, every=every, **ranking)
    assert together == keep(last=last) | keep(every=every) | keep(**ranking)
    assert len(losses) in together
    assert len(keep(**ranking) - {len(losses)}) <= best
    ranked = [v for v in losses if isinstance(v, (int, float)) and v == v and abs(v) != float("inf")]
    inside = [losses[n - 1] for n in keep(**ranking) if losses[n - 1] in ranked]
    if ranked:
        assert (max(ranked) if higher else min(ranked)) in inside


def durations_now() -> Any:
    from datetime import datetime, timezone

    return datetime(2026, 1, 2, tzinfo=timezone.utc)


# ---- declaring ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "error", "text"),
    [
        ("last 3", InvalidType, "mapping"),
        ({"median": 3}, InvalidInput, "median"),
        ({"path": "/m"}, InvalidInput, "what to keep"),
        ({"last": 0}, InvalidInput, "at least 1"),
        ({"last": "3"}, InvalidType, "number of versions"),
        ({"last": True}, InvalidType, "number of versions"),
        ({"best": 2}, InvalidInput, "by="),
        ({"best": 2, "by": "loss"}, InvalidInput, "order"),
        ({"best": 2, "by": "loss", "order": "best"}, InvalidInput, "higher"),
        ({"last": 2, "by": "loss"}, InvalidInput, "best=N"),
        ({"younger": "soon"}, InvalidInput, "7d"),
        ({"younger": -1}, InvalidInput, "100 years"),
        ({"younger": float("nan")}, InvalidInput, "100 years"),
        ({"path": "", "last": 1}, InvalidType, "glob"),
        ({"path": 3, "last": 1}, InvalidType, "glob"),
        ([{"last": 1}] * 257, InvalidInput, "256"),
        ([[1]], InvalidType, "mapping"),
    ],
)
def test_bad_rules_are_refused_with_the_way_out(rules: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        parse(rules)


def test_spellings_of_a_rule_mean_the_same() -> None:
    rule = Rule("/m/**", last=3, best=2, by="loss", order="lower", every=10, younger_s=7 * DAY_S)
    given = {"path": "/m/**", "last": 3, "best": 2, "by": "loss", "order": "lower", "every": 10, "younger": "7d"}
    assert parse(given) == parse([given]) == (rule,)
    assert parse({f"keep_{k}" if k in ("last", "best", "every", "younger") else k: v for k, v in given.items()}) == (
        rule,
    )
    assert parse(rule) == parse(rule.record()) == (rule,)
    assert parse(None) == parse([]) == ()
    assert parse(3, path="/x") == (Rule("/x", last=3),)
    assert retention.describe(rule) == (
        "/m/**: keep the last 3, the best 2 by loss (lower is better), every 10th, those younger than 7 d"
    )


@pytest.mark.parametrize("key", ["/m/best [1].pth", "/a*b?.txt", "/plain.pth", "/[x]"])
def test_the_exact_pattern_of_a_path_matches_it_alone(key: str) -> None:
    rule = Rule(literal(key), last=1)
    assert rule.matches(key)
    assert not rule.matches(key + "x") and not rule.matches("/a1b2.txt") and not rule.matches("/m/best 1.pth")


def test_merging_replaces_rules_of_the_same_pattern() -> None:
    old = parse([{"path": "/a", "last": 1}, {"path": "/b", "last": 2}])
    assert retention.merge(old, parse({"path": "/a", "every": 3})) == parse(
        [{"path": "/b", "last": 2}, {"path": "/a", "every": 3}]
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604_800), ("12h", 43_200), ("30m", 1800), ("45s", 45), ("2w", 1_209_600), ("5", 5), (0, 0)],
)
def test_durations(text: Any, seconds: float) -> None:
    assert durations.seconds(text, "keep") == seconds


@pytest.mark.parametrize(("seconds", "text"), [(604_800, "7 d"), (43_200, "12 h"), (60, "1 min"), (90.5, "90.5 s")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert durations.age(seconds) == text


# ---- stored with the session -------------------------------------------------------------------------------------


def test_rules_are_stored_with_the_session_and_survive_reopening(world: World) -> None:
    world.session()
    assert retention.get_rules(world.store, RUN) == ()
    rules = retention.set_rules(world.store, RUN, [{"path": "/m", "last": 3}, {"younger": "7d"}])
    again = world.open().store
    assert retention.get_rules(again, RUN) == rules
    numbers = again.catalog.view(RUN).n
    retention.set_rules(again, RUN, rules)
    assert again.catalog.view(RUN).n == numbers  # the same rules again cost no record
    world.session(description="more about it")
    assert retention.get_rules(world.store, RUN) == rules
    retention.set_rules(world.store, RUN, None)
    assert retention.get_rules(world.store, RUN) == ()


def test_rules_need_a_session_that_exists_and_may_change(world: World) -> None:
    for call in (lambda: retention.set_rules(world.store, OTHER, 1), lambda: retention.get_rules(world.store, OTHER)):
        with pytest.raises(NotFound, match="vision/run-2"):
            call()
    assert not world.store.catalog.view(OTHER).info.exists
    world.session(write_protected=True)
    with pytest.raises(StateError):
        retention.set_rules(world.store, RUN, 1)


def test_rules_of_a_newer_release_are_never_guessed(world: World) -> None:
    world.session(retention=[{"path": "/**", "median": 3}])
    with pytest.raises(UnsupportedFormat, match="vision/run-1"):
        retention.get_rules(world.store, RUN)
