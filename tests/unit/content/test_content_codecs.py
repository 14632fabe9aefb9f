"""Parts: what is stored for them, that it comes back, and that damage never does."""

from __future__ import annotations

import numpy as np
import pytest
from content_golden import moved, noise, text, weights

from dreamlake.content import blocks, codecs, frame, kernels, streams
from dreamlake.content.codecs import Base, Known
from dreamlake.errors import Corrupt


def no_base(key: str, size: int) -> bytes:
    raise AssertionError(f"asked for {key}")


def stored_and_back(plain: bytes, width: int, base: Base | None = None, effort: int = 1) -> codecs.Encoded:
    coded = codecs.encode_part(plain, width, base, effort=effort)
    known = dict([base[:2], base.before or base[:2]]) if base else {}
    needs = [key for key in (coded.base, coded.before) if key]
    asked: list[str] = []

    def fetch_base(key: str, size: int) -> bytes | memoryview:
        asked.append(key)
        assert size == len(known[key])
        return known[key]

    assert codecs.decode_part(coded.stored, len(plain), fetch_base) == plain
    assert asked == needs
    reference = codecs.base_of(coded.stored)
    named = [] if reference is None else [reference.key, *(reference.before or ())[:1]]
    assert named == needs
    return coded


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_weights_become_planes(width: int) -> None:
    coded = stored_and_back(weights(100_000, width).tobytes() + b"tail"[: width // 2], width)
    assert coded.kind == "planes" and coded.base is None and coded.depth == 0


def test_one_plane_of_float32_is_worth_coding() -> None:
    plain = weights(200_000, 4).tobytes()
    # The exponents of these weights have 1.98 bits of entropy: 26 of 32 bits remain.
    assert len(stored_and_back(plain, 4).stored) < 0.82 * len(plain)


@pytest.mark.parametrize("effort", [0, 1, 2])
@pytest.mark.parametrize("width", [2, 4, 8])
def test_a_small_movement_becomes_a_small_difference(width: int, effort: int) -> None:
    first = weights(120_000, width)
    second = moved(first, 5)
    base = Base(codecs.part_key(first.tobytes()), first.tobytes(), 3)
    coded = stored_and_back(second.tobytes(), width, base, effort)
    assert (coded.kind, coded.base, coded.depth) == ("difference", base.key, 4)
    assert len(coded.stored) < {2: 0.55, 4: 0.28, 8: 0.15}[width] * second.nbytes


def test_order_by_exponent_pays() -> None:
    first = weights(1 << 20, 4)
    base = Base(codecs.part_key(first.tobytes()), first.tobytes())
    plain = moved(first, 5).tobytes()
    fast, small = (stored_and_back(plain, 4, base, effort) for effort in (0, 1))
    assert len(small.stored) < 0.93 * len(fast.stored)


def test_a_steady_movement_is_extrapolated() -> None:
    first = weights(1 << 18, 4)
    second, third = moved(first, 5, 20), moved(moved(first, 5, 20), 5, 20)
    before = Known(codecs.part_key(first.tobytes()), first.tobytes())
    base = Base(codecs.part_key(second.tobytes()), second.tobytes(), 1, before)
    with_trend = stored_and_back(third.tobytes(), 4, base, 0)
    without = stored_and_back(third.tobytes(), 4, base._replace(before=None), 0)
    assert len(with_trend.stored) < 0.5 * len(without.stored)
    assert with_trend.before == before.key and without.before is None


def test_unchanged_content_costs_nothing() -> None:
    plain = weights(1 << 21, 2).tobytes()
    coded = stored_and_back(plain, 2, Base("b3-" + "0" * 64, plain))
    assert coded.kind == "difference" and len(coded.stored) < 400


def test_zeros_cost_nothing() -> None:
    assert len(stored_and_back(bytes(5 << 20), 4).stored) < 400


@pytest.mark.parametrize("shorter", [0, 1, 5, 4 << 20])
def test_base_of_another_size(shorter: int) -> None:
    first = weights((6 << 20) // 4, 4)
    plain = moved(first, 5).tobytes()
    for base in (first.tobytes()[: len(plain) - shorter], first.tobytes() + b"more"):
        coded = stored_and_back(plain, 4, Base("b3-" + "0" * 64, base))
        assert coded.kind == "difference"


def test_a_base_that_does_not_help_is_not_referred_to() -> None:
    base = weights(50_000, 4, 99).tobytes()
    assert stored_and_back(weights(50_000, 4).tobytes(), 4, Base("b3-" + "0" * 64, base)).kind == "planes"


def test_noise_is_stored_raw() -> None:
    plain = noise(50_000, 1).tobytes()
    for width in (0, 1, 2, 4, 8):
        coded = codecs.encode_part(plain, width)
        assert coded.kind == "raw" and coded.stored == plain
        assert codecs.decode_part(plain, len(plain), no_base) == plain


def test_text_is_compressed_and_its_next_version_costs_little() -> None:
    first = text(60_000)
    second = first.replace(b"step=4711,", b"step=forty-seven-eleven,")
    alone = stored_and_back(second, 0)
    after = stored_and_back(second, 0, Base(codecs.part_key(first), first))
    assert alone.kind == "zstd" and len(alone.stored) < 0.4 * len(second)
    assert after.kind == "zstd" and after.depth == 1 and len(after.stored) < 0.01 * len(second)


def test_content_that_begins_like_a_frame_is_framed() -> None:
    plain = frame.MAGIC + noise(10, 3).tobytes()
    coded = stored_and_back(plain, 0)
    assert coded.kind == "raw" and coded.stored != plain and frame.is_framed(coded.stored)


def test_a_base_at_the_limit_is_not_used() -> None:
    first = weights(50_000, 4)
    coded = codecs.encode_part(moved(first, 5).tobytes(), 4, Base("b3-" + "0" * 64, first.tobytes(), codecs.MAX_DEPTH))
    assert coded.kind == "planes"


@pytest.mark.parametrize(("size", "width", "effort"), [(0, 4, 1), (10, 3, 1), (10, 16, 1), (10, 4, 3), (10, 4, -1)])
def test_arguments_out_of_range(size: int, width: int, effort: int) -> None:
    with pytest.raises(ValueError, match="a part of"):
        codecs.encode_part(bytes(size), width, effort=effort)


@pytest.mark.parametrize("size", range(1, 40))
def test_tiny_parts(size: int) -> None:
    for width in (0, 1, 2, 4, 8):
        stored_and_back(noise(8, size).tobytes()[:size], width)
        stored_and_back(bytes(size), width, Base("b3-" + "0" * 64, bytes(size)))


def chain(depth: int) -> tuple[dict[str, bytes], list[tuple[str, int]]]:
    """Versions on top of each other: stored forms by key, and (key, size) of each version."""
    stored: dict[str, bytes] = {}
    versions = []
    words, base = weights(20_000, 4), None
    for i in range(depth + 1):
        plain = words.tobytes()
        coded = codecs.encode_part(plain, 4, base)
        key = codecs.part_key(plain)
        stored[key] = bytes(coded.stored)
        versions.append((key, len(plain)))
        base = Base(key, plain, coded.depth, Known(base.key, base.plain) if base else None)
        words = moved(words, 10 + i // 3, 16)
    return stored, versions


def test_chains_are_read_to_their_full_depth() -> None:
    stored, versions = chain(codecs.MAX_DEPTH)
    for depth, (key, size) in enumerate(versions):
        base = codecs.read_base(key, size, stored.__getitem__)
        assert base.depth == depth and codecs.part_key(base.plain) == key
        assert (base.before is None) == (depth == 0)
        assert base.before is None or base.before.key == versions[depth - 1][0]
    references = [codecs.base_of(stored[key]) for key, _ in versions]
    assert [found and found[:3] for found in references] == [None, *((*v, i + 1) for i, v in enumerate(versions[:-1]))]
    assert any(found is not None and found.before is not None for found in references)
    assert codecs.base_of(b"raw content") is None


def test_the_next_version_starts_a_branch_half_way_up() -> None:
    stored, versions = chain(codecs.MAX_DEPTH)
    head = {key: data[:400] for key, data in stored.items()}.__getitem__
    assert codecs.shallow_base(*versions[5], head) == versions[5]
    assert codecs.shallow_base(*versions[-1], head) == versions[codecs.MAX_DEPTH // 2]


def test_a_circle_of_bases_ends() -> None:
    keys = [f"b3-{i:064x}" for i in range(2)]
    heads = {
        key: frame.pack(frame.Kind.DIFFERENCE, 8, [], {"width": 4, "base": other, "base_size": 8, "depth": 8})
        for key, other in zip(keys, keys[::-1], strict=True)
    }
    assert codecs.shallow_base(keys[0], 8, heads.__getitem__)[0] in keys
    with pytest.raises(Corrupt, match="on top of each other"):
        codecs.read_part(keys[0], 8, heads.__getitem__)


def test_a_deeper_chain_is_refused() -> None:
    stored, versions = chain(codecs.MAX_DEPTH)
    words = np.frombuffer(codecs.read_part(*versions[-1], stored.__getitem__), "<u4")
    plain = moved(words, 99).tobytes()
    sneaked = codecs.encode_part(plain, 4, Base(versions[-1][0], words.tobytes(), 2))
    stored[codecs.part_key(plain)] = bytes(sneaked.stored)
    with pytest.raises(Corrupt, match="on top of each other"):
        codecs.read_part(codecs.part_key(plain), len(plain), stored.__getitem__)


def straight(depth: int, width: int = 4, size: int = 0) -> tuple[dict[str, bytes], list[tuple[str, int]]]:
    """Like ``chain``, as uploads make them: each version needs only the one before. ``size``: more bytes at the end."""
    stored: dict[str, bytes] = {}
    versions = []
    words, base = weights(20_000, width), None
    for i in range(depth + 1):
        plain = words.tobytes() + bytes(range(size))
        coded = codecs.encode_part(plain, width, base, effort=2 if i % 3 == 2 else 0)
        base = Base(codecs.part_key(plain), plain, coded.depth)
        stored[base.key] = bytes(coded.stored)
        versions.append((base.key, len(plain)))
        words = moved(words, 10 + i, 7)
    return stored, versions


@pytest.mark.parametrize(("width", "rest"), [(2, 1), (4, 0), (4, 3), (8, 5)])
def test_a_straight_chain_is_decoded_without_the_versions_between(width: int, rest: int) -> None:
    stored, versions = straight(codecs.MAX_DEPTH, width, rest)
    for depth, (key, size) in enumerate(versions):
        asked: list[str] = []
        buffers: list[int] = []

        def fetch(key: str, asked: list[str] = asked) -> bytes:
            asked.append(key)
            return stored[key]

        def fresh(count: int, buffers: list[int] = buffers) -> memoryview:
            buffers.append(count)
            return memoryview(bytearray(b"\xa5" * count))

        found = codecs.read_base(key, size, fetch, fresh=fresh, before=False)
        assert codecs.part_key(found.plain) == key
        assert (found.depth, found.before) == (depth, None)
        assert asked == [key for key, _ in versions[depth::-1]]
        assert buffers.count(size) <= 2  # one for the result; at the full depth the first version has its own


def test_a_chain_begins_where_a_version_is_in_memory() -> None:
    stored, versions = straight(5)
    plains = {key: bytes(codecs.read_part(key, size, stored.__getitem__)) for key, size in versions}
    for known in range(5):
        asked: list[str] = []

        def fetch(key: str, asked: list[str] = asked) -> bytes:
            asked.append(key)
            return stored[key]

        def remembered(key: str, known: int = known) -> Base | None:
            return Base(key, plains[key], known) if key == versions[known][0] else None

        key, size = versions[4]
        found = codecs.read_base(key, size, fetch, before=False, remembered=remembered)
        assert (found.plain, found.depth) == (plains[key], 4)
        assert asked == [key for key, _ in versions[4:known:-1]]


def test_what_is_in_memory_is_proven_too() -> None:
    stored, versions = straight(3)
    wrong = weights(20_000, 4, 55).tobytes()
    key, size = versions[3]

    def remembered(key: str) -> Base | None:
        return Base(key, wrong, 0) if key == versions[1][0] else None

    found = codecs.read_base(key, size, stored.__getitem__, before=False, remembered=remembered)
    assert codecs.part_key(found.plain) == key  # what lies was not believed


def test_a_straight_chain_with_a_damaged_link() -> None:
    stored, versions = straight(3)
    good = stored[versions[1][0]]
    for damaged in (good[:-1], good[:200] + bytes(len(good) - 200), good + b"x", stored[versions[2][0]]):
        stored[versions[1][0]] = damaged
        with pytest.raises(Corrupt):
            codecs.read_part(*versions[3], stored.__getitem__)
        copies = {key: [data] for key, data in stored.items()} | {versions[1][0]: [damaged, good]}
        plain = codecs.read_part(*versions[3], stored.__getitem__, copies.__getitem__)
        assert codecs.part_key(plain) == versions[3][0]


def test_wrong_content_of_any_link_is_noticed() -> None:
    stored, versions = chain(2)
    other = codecs.encode_part(weights(20_000, 4, 77).tobytes(), 4)
    stored[versions[0][0]] = bytes(other.stored)
    with pytest.raises(Corrupt, match="promises"):
        codecs.read_part(*versions[2], stored.__getitem__)


def test_another_size_than_expected() -> None:
    plain = weights(5000, 4).tobytes()
    stored = codecs.encode_part(plain, 4).stored
    for size in (len(plain) - 1, len(plain) + 1, 0, codecs.MAX_PART + 1):
        with pytest.raises(Corrupt):
            codecs.decode_part(stored, size, no_base)


def test_a_zstd_frame_that_claims_more_is_refused_before_it_allocates() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 28))
    assert len(bomb) < 1 << 16
    for size in (100, 1 << 20):
        with pytest.raises(Corrupt):
            streams.inflate(bomb, size)
    unsized = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(1, write_content_size=0)
    ).compress(bytes(1 << 28))
    with pytest.raises(Corrupt):
        streams.inflate(unsized, 1000)


def test_streams_nest_only_so_far() -> None:
    nested = b"\x00\x00\x00\x00\x00"
    for _ in range(5):
        body = (0).to_bytes(4, "little") + nested + b"\x00\x00\x00\x00\x00"
        nested = bytes([3]) + len(body).to_bytes(4, "little") + body
    with pytest.raises(Corrupt):
        streams.unpack(memoryview(nested), 0, 0)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros(5000, np.uint8),
        np.arange(5000, dtype=np.uint8),
        (noise(5000, 1) % np.uint64(50) == 0).astype(np.uint8),
        (noise(5000, 1) % np.uint64(2000) == 0).astype(np.uint8) * np.uint8(9),
        noise(700, 1).view(np.uint8),
        np.array([7], np.uint8),
        np.array([], np.uint8),
    ],
    ids=["zeros", "periodic", "sparse", "very sparse", "noise", "one", "none"],
)
def test_streams(data: np.ndarray) -> None:
    out: list[bytes] = []
    streams.pack(data, out)
    coded = b"".join(out)
    back, end = streams.unpack(memoryview(b"ab" + coded + b"cd"), 2, len(data))
    assert end == 2 + len(coded) and back.tobytes() == data.tobytes()
    assert len(coded) <= len(data) + streams.HEAD_SIZE


def test_sparse_streams_cost_what_their_entropy_says() -> None:
    data = (noise(1 << 18, 5) % np.uint64(100) == 0).astype(np.uint8)
    out: list[bytes] = []
    streams.pack(data, out)
    assert 8 * sum(map(len, out)) / len(data) < 1.25 * 0.0808  # the entropy of one in a hundred


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_kernels_undo_each_other(width: int) -> None:
    words, base = noise(1000, 1).astype(f"<u{width}"), noise(1000, 2).astype(f"<u{width}")
    out = np.empty_like(words)
    kernels.unfold(kernels.fold(words, base), base, out)
    assert (out == words).all()
    folded = blocks.planes_of(iter((kernels.fold(words, base),)), 1000, words.dtype)
    again = base.copy()
    for start, end in ((0, 700), (700, 1000)):
        kernels.unfold_planes(folded, start, again[start:end], again[start:end])
    assert (again == words).all()
    kernels.unrotate(kernels.rotate(words), out)
    assert (out == words).all()
    planes = blocks.planes_of(iter((words[:600], words[600:])), 1000, words.dtype)
    assert (kernels.join(planes, 0, 1000, words.dtype) == words).all()
    assert bytes(planes[0][:3]) == bytes(int(w) & 255 for w in words[:3])


def test_small_differences_have_small_bytes() -> None:
    base = np.full(5, 1000, np.uint32)
    words = np.array([1000, 1001, 999, 1127, 872], np.uint32)
    folded = kernels.fold(words, base)
    assert (folded < 256).all() and folded[0] == 0


def test_guess_width() -> None:
    for width in (2, 4, 8):
        assert codecs.guess_width(weights(60_000 // width, width).tobytes()) == width
    assert codecs.guess_width(text(2000)) == 0
    assert codecs.guess_width(noise(8000, 1).tobytes()) == 0
    assert codecs.guess_width(b"short") == 0
