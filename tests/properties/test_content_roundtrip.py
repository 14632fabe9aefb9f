"""Whatever the bytes, the width, the base: what is stored decodes to exactly what was given."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamlake.content import cdc, codecs, kernels, recipe, streams
from dreamlake.content.chunking import Piece, Plan, PlannedPart, gather
from dreamlake.content.codecs import Base, Known

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

small = st.binary(min_size=1, max_size=3000)
# Long inputs from few choices: noise, runs and repeated pieces, in any mix.
piece = st.one_of(
    st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 3000)).map(lambda x: x[0] * x[1]),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 30_000)).map(lambda x: np.random.default_rng(x[0]).bytes(x[1])),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 10_000)).map(
        lambda x: (np.random.default_rng(x[0]).standard_normal(x[1]) * 0.02).astype("<f4").tobytes()
    ),
)
content = st.one_of(small, st.lists(piece, min_size=1, max_size=4).map(b"".join))
width = st.sampled_from([0, 1, 2, 4, 8])


@st.composite
def versions(draw: st.DrawFn) -> tuple[bytes, bytes, bytes | None]:
    """(content, base, the base's base): related, unrelated or of another size."""
    plain = draw(content)
    related = bytearray(plain)
    for place in draw(st.lists(st.integers(0, len(plain) - 1), max_size=20)):
        related[place] = draw(st.integers(0, 255))
    base = draw(
        st.one_of(st.just(bytes(related)), content, st.just(plain), st.just(bytes(related[: len(plain) // 2 + 1])))
    )
    before = draw(st.one_of(st.none(), st.just(plain), st.just(base), content))
    return plain, base, before


@QUICK
@given(versions(), width, st.integers(0, 2))
def test_parts_come_back(data: tuple[bytes, bytes, bytes | None], width: int, effort: int) -> None:
    plain, base, before = data
    known = Base(codecs.part_key(base), base, 1, None if before is None else Known(codecs.part_key(before), before))
    stored = {known.key: base, **({} if known.before is None or before is None else {known.before.key: before})}
    coded = codecs.encode_part(plain, width, known, effort=effort)
    assert codecs.decode_part(coded.stored, len(plain), lambda key, size: stored[key]) == plain
    assert len(coded.stored) <= len(plain) + 64
    assert coded == codecs.encode_part(plain, width, known, effort=effort)


@QUICK
@given(st.lists(versions(), min_size=1, max_size=4), width, st.integers(0, 2), st.booleans())
def test_chains_come_back(
    history: list[tuple[bytes, bytes, bytes | None]], width: int, effort: int, extrapolate: bool
) -> None:
    """Whatever stands below a version, it reads the same in one go and link by link."""
    stored: dict[str, bytes] = {}
    base = None
    for plain in [plain for versions in history for plain in versions[1::-1]]:
        coded = codecs.encode_part(plain, width, base, effort=effort)
        key = codecs.part_key(plain)
        stored.setdefault(key, bytes(coded.stored))
        for before in (False, True):
            found = codecs.read_base(key, len(plain), stored.__getitem__, before=before)
            assert found.plain == plain
        base = found if extrapolate else found._replace(before=None)
        base = base if base.depth < codecs.MAX_DEPTH else None


@QUICK
@given(content)
def test_streams_come_back(data: bytes) -> None:
    out: list[bytes] = []
    streams.pack(np.frombuffer(data, np.uint8), out)
    coded = b"".join(out)
    back, end = streams.unpack(memoryview(coded), 0, len(data))
    assert back.tobytes() == data and end == len(coded)


@QUICK
@given(
    st.binary(min_size=8, max_size=4000), st.binary(min_size=8, max_size=4000), st.sampled_from([2, 4, 8]), st.data()
)
def test_order_is_a_permutation_that_the_base_alone_decides(
    one: bytes, two: bytes, width: int, data: st.DataObject
) -> None:
    count = min(len(one), len(two)) // width
    base, before = kernels.as_words(one[: count * width], width), kernels.as_words(two[: count * width], width)
    shift = data.draw(st.integers(0, 8 * width - 1))
    for previous in (None, before):
        order, runs = kernels.order_by_class(base, previous, shift)
        assert sorted(order.tolist()) == list(range(count))
        labels = (kernels.classes(base, previous, shift) >> np.uint32(16)).tolist()
        assert [labels[i] for i in order] == sorted(labels)
        assert all(list(order[low:high]) == sorted(order[low:high]) for _, low, high in runs)
        assert [(label, high - low) for label, low, high in runs] == [(x, labels.count(x)) for x in sorted(set(labels))]


@QUICK
@given(
    st.binary(min_size=8, max_size=2000),
    st.binary(min_size=8, max_size=2000),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 16),
)
def test_extrapolation_is_exact_integer_arithmetic(one: bytes, two: bytes, width: int, factor: int) -> None:
    count = min(len(one), len(two)) // width
    base, before = kernels.as_words(one[: count * width], width), kernels.as_words(two[: count * width], width)
    bits = 8 * width

    def signed(value: int) -> int:
        value %= 1 << bits
        return value - (1 << bits) if value >> (bits - 1) else value

    expected = [
        (b + (signed(signed(b - a) * factor) >> 4)) % (1 << bits)
        for a, b in zip(before.tolist(), base.tolist(), strict=True)
    ]
    assert kernels.extrapolate(base, before, factor).tolist() == expected


@QUICK
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 200), st.integers(0, 3)), max_size=30),
    st.integers(0, 60),
    st.data(),
)
def test_recipes_rebuild_any_arrangement(spans: list[tuple[int, int, int]], rest: int, data: st.DataObject) -> None:
    at, owners = 0, {}
    for gap, length, owner in spans:
        owners.setdefault(owner, []).append(Piece(at + gap, length))
        at += gap + length
    size = at + rest
    file = np.random.default_rng(size).bytes(size)
    parts = tuple(PlannedPart(tuple(pieces), 4, f"{owner:016x}") for owner, pieces in owners.items())
    plain = [gather(file, part) for part in parts]
    plan = Plan("test", size, parts)
    made = recipe.build(plan, [codecs.part_key(p) for p in plain], hashlib.sha256(file).hexdigest(), file)
    assert made is not None
    if size:
        assert recipe.decode(recipe.encode(made)) == made
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    assert b"".join(recipe.assemble(made, start, stop, plain.__getitem__)) == file[start:stop]


@QUICK
@given(content)
def test_cuts_cover_the_content(data: bytes) -> None:
    places = cdc.candidates(data)
    assert places == sorted(set(places)) and all(cdc.WINDOW <= place <= len(data) for place in places)
    borders = list(cdc.cuts(iter(places), len(data)))
    assert borders == sorted(borders) and borders[-1] == len(data)


@QUICK
@given(st.lists(st.floats(width=32), min_size=1, max_size=500))
def test_every_float_survives(values: list[float]) -> None:
    plain = struct.pack(f"<{len(values)}f", *values)
    base = struct.pack(f"<{len(values)}f", *reversed(values))
    coded = codecs.encode_part(plain, 4, Base(codecs.part_key(base), base), effort=2)
    assert codecs.decode_part(coded.stored, len(plain), lambda key, size: base) == plain
