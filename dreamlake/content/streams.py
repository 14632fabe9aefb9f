"""One stream of bytes (a byte plane, a bitmap, interleaved words) <-> its smallest cheap coding.

    stream := codec (1 byte), size of the body in bytes (4, little-endian), body
    codec 0  raw     body: the bytes
    codec 1  zstd    body: one zstd frame without content size and checksum
    codec 2  fill    body: the one byte that all are
    codec 3  sparse  body: count of bytes that are not zero (4, little-endian), then two streams:
                     a bitmap (first byte = highest bit of the first byte) of which are not zero, and these bytes

The reader always knows how many bytes must come out, so nothing is allocated that damaged input claims. Weights are
noise to a match finder: for them zstd only serves as an entropy coder (fast strategy, longest minimum match).
``sparse`` goes where Huffman codes cannot, below one bit a byte.
"""

from __future__ import annotations

import threading
from struct import Struct
from typing import TYPE_CHECKING, Any

from dreamlake.content.buffers import Fresh, new_buffer
from dreamlake.errors import Corrupt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

__all__ = ["HEAD_SIZE", "deflate", "entropy_bits", "inflate", "pack", "sample", "unpack"]

RAW, ZSTD, FILL, SPARSE = range(4)
HEAD_SIZE = 5
MAX_NESTING = 3  # sparse within sparse; each level costs at least 1/8 of the bits that it saves
_HEAD = Struct("<BI")
_COUNT = Struct("<I")
_TRY_BELOW = 1 << 10  # so short that trying costs less than sampling
_SAMPLE = 4096
_RAW_ABOVE_BITS = 7.85  # an order-0 gain below 2 % does not pay for decoding
_SPARSE_BELOW = 0.62  # share of bytes that are not zero
_RUN = 1 << 18  # bytes worked on at a time
_MATCHES_FROM = 1 << 16  # streams from this length on are worth asking whether a match finder helps

_local = threading.local()


def pack(data: Bytes, out: list[bytes | memoryview], nesting: int = 0) -> None:
    """Append the coded stream to ``out``, which may refer to ``data``: contiguous, not to be changed afterwards."""
    import numpy as np

    if not len(data):
        _emit(out, RAW, b"")
        return
    probe = sample(data)
    if probe.max() == probe.min() and not (data != data[0]).any():
        _emit(out, FILL, data[:1].tobytes())
        return
    zeros = len(probe) - int(np.count_nonzero(probe))
    if len(probe) - zeros < _SPARSE_BELOW * len(probe) and nesting < MAX_NESTING and len(data) >= _TRY_BELOW:
        _pack_sparse(data, out, nesting)
        return
    if len(data) >= _TRY_BELOW and entropy_bits(probe) > _RAW_ABOVE_BITS:
        _emit(out, RAW, data.data)
        return
    body = _coder(data).compress(data)
    if len(body) < len(data):
        _emit(out, ZSTD, body)
    else:
        _emit(out, RAW, data.data)


def unpack(view: memoryview, at: int, size: int, nesting: int = 0, fresh: Fresh = new_buffer) -> tuple[Bytes, int]:
    """The ``size`` bytes of the stream that begins at ``view[at]``, and where it ends. Raises ``Corrupt``.

    The array may share memory with ``view`` and must not be written to.
    """
    import numpy as np

    if at + HEAD_SIZE > len(view):
        raise Corrupt("a coded stream is cut off")
    codec, length = _HEAD.unpack_from(view, at)
    at += HEAD_SIZE
    end = at + length
    if end > len(view):
        raise Corrupt("a coded stream is longer than what holds it")
    if codec == RAW:
        if length != size:
            raise Corrupt(f"a raw stream of {length:,} bytes; {size:,} expected")
        return np.frombuffer(view[at:end], np.uint8), end
    if codec == FILL:
        if length != 1:
            raise Corrupt("a fill stream with more than one byte")
        return np.full(size, view[at], np.uint8), end
    if codec == ZSTD:
        return np.frombuffer(inflate(view[at:end], size), np.uint8), end
    if codec == SPARSE and nesting < MAX_NESTING:
        return _unpack_sparse(view[at:end], size, nesting, fresh), end
    raise Corrupt(f"a stream of unknown codec {codec}")


def inflate(body: bytes | memoryview, size: int, history: bytes | memoryview | None = None) -> bytes:
    """Exactly ``size`` bytes from one zstd frame that does not state its content size. Raises ``Corrupt``."""
    import zstandard

    try:
        if zstandard.get_frame_parameters(body).content_size not in (zstandard.CONTENTSIZE_UNKNOWN, size):
            raise Corrupt("a zstd frame of another size than expected")  # zstandard would allocate what it claims
        decompressor = _decompressor() if history is None else zstandard.ZstdDecompressor(dict_data=_history(history))
        data = decompressor.decompress(body, max_output_size=max(1, size), allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as error:
        raise Corrupt(f"a zstd frame is damaged: {error}") from None
    if len(data) != size:
        raise Corrupt(f"a zstd frame of {len(data):,} bytes; {size:,} expected")
    return bytes(data)


def deflate(data: bytes | memoryview, history: bytes | memoryview | None = None) -> bytes:
    """One zstd frame of content that is not numbers; with ``history``, matches reach into those bytes, too."""
    import zstandard as z

    options: dict[str, int] = {"write_content_size": 0, "write_checksum": 0, "write_dict_id": 0}
    if history is None:
        options["window_log"] = max(17, min(23, len(data).bit_length()))
        plain = z.ZstdCompressionParameters.from_level(3, **options)
        return bytes(z.ZstdCompressor(compression_params=plain).compress(data))
    # zstd only looks at as much of the history as its tables can index: 8 bytes an entry.
    tables = max(17, min(23, len(history).bit_length() - 2))
    options |= {"hash_log": tables, "chain_log": tables}
    options["window_log"] = max(17, min(27, (len(data) + len(history)).bit_length()))
    parameters = z.ZstdCompressionParameters.from_level(3, **options)
    return bytes(z.ZstdCompressor(compression_params=parameters, dict_data=_history(history)).compress(data))


def sample(data: NDArray[Any], count: int = _SAMPLE, pieces: int = 8) -> NDArray[Any]:
    """About ``count`` elements of a one-dimensional array: evenly spread runs, always the same ones."""
    import numpy as np

    if len(data) <= count:
        return data
    run = count // pieces
    step = (len(data) - run) // (pieces - 1)
    return np.concatenate([data[i * step : i * step + run] for i in range(pieces)])


def entropy_bits(data: Bytes) -> float:
    """Order-0 entropy in bits a byte, corrected for the sample's size (Miller and Madow)."""
    import numpy as np

    counts = np.bincount(data, minlength=256)
    counts = counts[counts > 0].astype(np.float64)
    total = counts.sum()
    bits = float(np.log2(total) - (counts * np.log2(counts)).sum() / total)
    return float(min(8.0, bits + (len(counts) - 1) / (2 * total * 0.6931)))


def _pack_sparse(data: Bytes, out: list[bytes | memoryview], nesting: int) -> None:
    import numpy as np

    mask = data != 0
    runs = range(0, len(data), _RUN)  # short ones: the places that numpy makes of them stay in the cache
    values = np.concatenate([np.compress(mask[s : s + _RUN], data[s : s + _RUN]) for s in runs])
    body: list[bytes | memoryview] = [_COUNT.pack(len(values))]
    pack(np.packbits(mask), body, nesting + 1)
    pack(values, body, nesting + 1)
    if sum(map(len, body)) < len(data):
        _emit(out, SPARSE, *body)
    else:
        _emit(out, RAW, data.data)


def _unpack_sparse(view: memoryview, size: int, nesting: int, fresh: Fresh) -> Bytes:
    import numpy as np

    if len(view) < _COUNT.size:
        raise Corrupt("a sparse stream is cut off")
    (count,) = _COUNT.unpack_from(view, 0)
    if count > size:
        raise Corrupt("a sparse stream with more values than places")
    bitmap, at = unpack(view, _COUNT.size, (size + 7) // 8, nesting + 1, fresh)
    values, at = unpack(view, at, count, nesting + 1, fresh)
    if at != len(view):
        raise Corrupt("a sparse stream with bytes left over")
    data = np.frombuffer(fresh(size), np.uint8)
    taken = 0
    for start in range(0, size, _RUN):
        run = data[start : start + _RUN]
        run.fill(0)
        mask = np.unpackbits(bitmap[start // 8 : (start + _RUN) // 8], count=len(run))
        places = np.flatnonzero(mask.view(np.bool_))  # as bytes it would take several times as long
        found = values[taken : taken + len(places)]
        if len(found) != len(places):
            raise Corrupt("a sparse stream with fewer values than places for them")
        run[places] = found
        taken += len(places)
    if taken != count:
        raise Corrupt("a sparse stream with more values than places for them")
    return data


def _emit(out: list[bytes | memoryview], codec: int, *body: bytes | memoryview) -> None:
    out.append(_HEAD.pack(codec, sum(map(len, body))))
    out.extend(body)


def _coder(data: Bytes) -> Any:
    """The compressor for this stream, by trying both on a piece from its middle when it is long."""
    entropy, matching = _compressors()
    if len(data) < _MATCHES_FROM:
        return entropy
    middle = data[len(data) // 2 : len(data) // 2 + _SAMPLE * 2]
    return matching if len(matching.compress(middle)) < 0.9 * len(entropy.compress(middle)) else entropy


def _compressors() -> tuple[Any, Any]:
    """(entropy coder, match finder) of this thread; zstandard's objects must not be shared between threads."""
    if not hasattr(_local, "compressors"):
        import zstandard as z

        def make(**options: int) -> Any:
            parameters = z.ZstdCompressionParameters(write_content_size=0, write_checksum=0, write_dict_id=0, **options)
            return z.ZstdCompressor(compression_params=parameters)

        entropy = make(strategy=z.STRATEGY_FAST, min_match=7, hash_log=6, window_log=17, target_length=0)
        matching = make(strategy=z.STRATEGY_DFAST, window_log=21, chain_log=16, hash_log=17, search_log=1, min_match=5)
        _local.compressors = entropy, matching
    return _local.compressors  # type: ignore[no-any-return]


def _decompressor() -> Any:
    if not hasattr(_local, "decompressor"):
        import zstandard

        _local.decompressor = zstandard.ZstdDecompressor()
    return _local.decompressor


def _history(data: bytes | memoryview) -> Any:
    import zstandard

    return zstandard.ZstdCompressionDict(bytes(data), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
