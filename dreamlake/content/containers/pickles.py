"""Which tensors a torch checkpoint holds, read off its pickle without unpickling it.

A pickle is a program. This module interprets the dozen instructions that build dicts, lists, tuples and numbers, and
recognises the calls by which torch puts tensors together. It imports nothing, calls nothing, and keeps everything else
as an opaque token. Steps, nesting and counts are limited; an instruction it does not know ends the scan (``Odd``).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from struct import unpack
from typing import Any, NamedTuple

from dreamlake.content.containers.layout import MAX_TENSORS
from dreamlake.content.containers.source import Odd

__all__ = ["FoundTensor", "Storage", "scan"]

MAX_STEPS = 4_000_000
MAX_NESTING = 16

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "",
}  # fmt: skip


class Storage(NamedTuple):
    """A reference to an entry ``data/<key>``. ``dtype`` is "" when only the tensors on it tell."""

    dtype: str
    key: str


class FoundTensor(NamedTuple):
    """A tensor as the pickle describes it; nothing of it is checked. ``group`` names the dict that holds it."""

    name: str
    storage: Storage
    dtype: str
    start: int
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    group: str


class _Global(NamedTuple):
    module: str
    name: str


class _Tensor(NamedTuple):
    storage: Storage
    dtype: str
    start: Any
    shape: Any
    strides: Any


class _Items(list[Any]):
    """A dict or list under construction: pairs (key, value)."""


_MARK, _OPAQUE = object(), object()


def scan(data: bytes) -> list[FoundTensor]:
    """All tensors in the order of the pickle. Raises ``Odd`` when it cannot be followed to its end."""
    found = list(islice(_walk(_Machine(data).run(), "", "", 0, set()), MAX_TENSORS + 1))
    if len(found) > MAX_TENSORS:
        raise Odd("too many tensors")
    return found


class _Machine:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        table = _INSTRUCTIONS
        try:
            for _ in range(MAX_STEPS):
                code = self._data[self._at]
                self._at += 1
                if code == 0x2E:  # STOP
                    return self._stack.pop()
                table[code](self)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise Odd(f"a pickle that cannot be followed: {error}") from None
        raise Odd("an endless pickle")

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise Odd("a pickle is cut off")
        self._at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        end = self._data.index(b"\n", self._at, self._at + 512)
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def remember(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def recall(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def since_mark(self) -> list[Any]:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                items = self._stack[i + 1 :]
                del self._stack[i:]
                return items
        raise Odd("a pickle without its mark")

    def collect(self, count: int) -> None:
        items = tuple(self._stack[-count:]) if count else ()
        if len(items) != count:
            raise Odd("a pickle with too short a stack")
        del self._stack[len(self._stack) - count :]
        self.push(items)

    def add_pairs(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], _Items):
            self._stack[-1].extend(zip(items[::2], items[1::2], strict=True))

    def add_values(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, _Items):
            target.extend((len(target) + i, item) for i, item in enumerate(items))

    def global_name(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self.push(_Global(str(module), str(name)))

    def reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self.push(_call(function, arguments))

    def build(self) -> None:
        state = self._stack.pop()
        if self._stack[-1] is _OPAQUE and isinstance(state, _Items):
            self._stack[-1] = state  # an object, a whole module for instance: its attributes stand for it

    def persistent(self) -> None:
        reference = self._stack.pop()
        if not (isinstance(reference, tuple) and len(reference) >= 3 and reference[0] == "storage"):
            raise Odd("a reference that is not to a storage")
        kind, key = reference[1], reference[2]
        if not isinstance(kind, _Global) or kind.name not in _STORAGES or not isinstance(key, str):
            raise Odd("a storage of unknown kind")
        self.push(Storage(_STORAGES[kind.name], key))


def _call(function: Any, arguments: Any) -> Any:
    """What a call gives, as far as tensors and dicts are concerned."""
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        return _OPAQUE
    if function == ("collections", "OrderedDict") and not arguments:
        return _Items()
    if function.module != "torch._utils":
        return _OPAQUE
    if function.name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3") and len(arguments) >= 4:
        storage, start, shape, strides = arguments[:4]
        dtype = storage.dtype if isinstance(storage, Storage) else ""
        if function.name == "_rebuild_tensor_v3" and len(arguments) >= 7 and isinstance(arguments[6], _Global):
            dtype = arguments[6].name
        if isinstance(storage, Storage):
            return _Tensor(storage, dtype, start, shape, strides)
    if function.name in ("_rebuild_parameter", "_rebuild_parameter_with_state") and arguments:
        return arguments[0]
    return _OPAQUE


def _walk(value: Any, name: str, group: str, depth: int, seen: set[int]) -> Iterator[FoundTensor]:
    if isinstance(value, _Tensor):
        shape = value.shape if isinstance(value.shape, tuple) else ()
        strides = value.strides if isinstance(value.strides, tuple) else ()
        start = value.start if isinstance(value.start, int) else -1
        yield FoundTensor(name, value.storage, value.dtype, start, shape, strides, group)
    elif isinstance(value, (_Items, tuple)) and depth < MAX_NESTING and id(value) not in seen:
        seen.add(id(value))
        pairs = value if isinstance(value, _Items) else list(enumerate(value))
        # A collection of many tensors is a group of its own; the handful that an optimizer keeps for one weight is not.
        many = sum(isinstance(item, _Tensor) for _, item in pairs) >= 8
        for key, item in pairs:
            if isinstance(key, (str, int)):
                yield from _walk(item, f"{name}.{key}" if name else str(key), name if many else group, depth + 1, seen)


def _instructions() -> dict[int, Any]:
    m = _Machine
    table: dict[bytes, Any] = {
        b"\x80": lambda s: s.take(1),  # PROTO
        b"\x95": lambda s: s.take(8),  # FRAME
        b"(": lambda s: s.push(_MARK),
        b"}": lambda s: s.push(_Items()),
        b"]": lambda s: s.push(_Items()),
        b"\x8f": lambda s: s.push(_OPAQUE),  # EMPTY_SET
        b")": lambda s: s.push(()),
        b"N": lambda s: s.push(None),
        b"\x88": lambda s: s.push(True),
        b"\x89": lambda s: s.push(False),
        b"J": lambda s: s.push(unpack("<i", s.take(4))[0]),
        b"K": lambda s: s.push(s.number(1)),
        b"M": lambda s: s.push(s.number(2)),
        b"G": lambda s: s.push(unpack(">d", s.take(8))[0]),
        b"\x8a": lambda s: s.push(int.from_bytes(s.take(s.number(1)), "little", signed=True)),  # LONG1
        b"X": lambda s: s.push(s.take(s.number(4)).decode("utf-8", "surrogatepass")),
        b"\x8c": lambda s: s.push(s.take(s.number(1)).decode("utf-8", "surrogatepass")),
        b"U": lambda s: s.push(s.take(s.number(1)) and _OPAQUE),  # SHORT_BINSTRING
        b"T": lambda s: s.push(s.take(s.number(4)) and _OPAQUE),  # BINSTRING
        b"C": lambda s: s.push(s.take(s.number(1)) and _OPAQUE),  # SHORT_BINBYTES
        b"B": lambda s: s.push(s.take(s.number(4)) and _OPAQUE),  # BINBYTES
        b"c": lambda s: s.push(_Global(s.line(), s.line())),
        b"\x93": m.global_name,  # STACK_GLOBAL
        b"q": lambda s: s.remember(s.number(1)),
        b"r": lambda s: s.remember(s.number(4)),
        b"\x94": m.memoize,
        b"h": lambda s: s.recall(s.number(1)),
        b"j": lambda s: s.recall(s.number(4)),
        b"t": lambda s: s.push(tuple(s.since_mark())),
        b"\x85": lambda s: s.collect(1),
        b"\x86": lambda s: s.collect(2),
        b"\x87": lambda s: s.collect(3),
        b"s": lambda s: s.add_pairs([s._stack.pop(-2), s._stack.pop()]),
        b"u": lambda s: s.add_pairs(s.since_mark()),
        b"a": lambda s: s.add_values([s._stack.pop()]),
        b"e": lambda s: s.add_values(s.since_mark()),
        b"\x90": lambda s: s.since_mark(),  # ADDITEMS of a set
        b"R": m.reduce,
        b"\x81": m.reduce,  # NEWOBJ
        b"b": m.build,
        b"Q": m.persistent,
        b"0": lambda s: s._stack.pop(),
    }
    return {code[0]: action for code, action in table.items()}


_INSTRUCTIONS = _instructions()
