"""The expression language of ``find``, the same in Python and on the command line: text in, a frozen tree out.

    metadata.val_accuracy > 0.9 and tag:best
    (path:/models/** or name:*.onnx) and size >= 10M and not metadata.failed
    metadata.optimizer in (adam, adamw) and age < 7d

Owns the grammar. Nothing is ever evaluated as code, and everything has a limit (I10). Errors name the column.

    expression  any {"or" any}          any   each {"and" each}         each  ["not"] (test | "(" expression ")")
    test        field [operator value | ["not"] "in" "(" value {"," value} ")"]        without an operator: it is there
    field       name {"." (name | quoted)}                              value bare word or quoted text
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.operations.durations import seconds
from dreamlake.operations.moments import moment
from dreamlake.operations.query import CONSTANTS, KINDS, And, Field, Node, Not, Or, Test

__all__ = ["parse", "parse_field", "size_bytes"]

MAX_CHARACTERS = 20_000
MAX_DEPTH = 50
_RECORD_NAMES = {  # as they are called in a record
    "tags": "tag", "filename": "name", "contentType": "type", "sessionId": "session", "sizeBytes": "size",
    "uploadedAt": "uploaded", "updatedAt": "updated",
}  # fmt: skip
_UNITS = " KMGT"
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[\w$-]+")
_QUOTED = re.compile(r""""((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'""", re.DOTALL)
_BARE = re.compile(r"[^\s(),\"']+")
_OPERATOR = re.compile(r"<=|>=|==|!=|<|>|=|:|~")
_WORD = re.compile(r"(and|or|not|in)(?![\w$.\-:=~<>!])", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([kKmMgGtT]?)(?:i?[bB])?")


def parse(text: str) -> Node:
    """The tree of an expression. Raises ``InvalidInput`` naming the column, or ``InvalidType``."""
    if not isinstance(text, str):
        raise InvalidType(f"an expression is text such as 'metadata.loss < 0.5', not {type(text).__name__}")
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"the expression has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}")
    reader = _Reader(text)
    tree = reader.expression(0)
    if not reader.ended():
        raise reader.wrong("'and', 'or' or the end was expected here")
    return tree


def parse_field(text: str) -> Field:
    """One field alone, such as ``metadata."val acc".top1``. Raises ``InvalidInput``."""
    reader = _Reader(text)
    found = reader.field()
    if not reader.ended():
        raise reader.wrong("only a field was expected")
    return found


def size_bytes(text: str) -> int | None:
    """``"10M"`` -> 10485760 (units are powers of 1024: K, M, G, T, also KiB or KB); None for other text."""
    found = _SIZE.fullmatch(text.strip())
    return int(float(found[1]) * 1024 ** _UNITS.index(found[2].upper() or " ")) if found else None


class _Reader:
    """Reads an expression from left to right; ``at`` is where it stands."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def wrong(self, message: str, at: int | None = None) -> InvalidInput:
        place = self.at if at is None else at
        before, after = self.text[max(0, place - 40) : place], self.text[place : place + 20]
        return InvalidInput(f"expression, column {place + 1}: {message}: {before}-->{after}")

    def ended(self) -> bool:
        self._skip()
        return self.at >= len(self.text)

    def expression(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.wrong(f"more than {MAX_DEPTH} parentheses or nots inside each other")
        return self._chain("or", lambda: self._chain("and", lambda: self._each(depth), And), Or)

    def _chain(self, word: str, read: Callable[[], Node], make: type[And] | type[Or]) -> Node:
        items = [read()]
        while self._word() == word:
            self._take_word()
            items.append(read())
        return items[0] if len(items) == 1 else make(tuple(items))

    def _each(self, depth: int) -> Node:
        if self._word() == "not":
            self._take_word()
            if depth > MAX_DEPTH:
                raise self.wrong(f"more than {MAX_DEPTH} parentheses or nots inside each other")
            return Not(self._each(depth + 1))
        self._skip()
        start = self.at
        if self._mark("("):
            inner = self.expression(depth + 1)
            if not self._mark(")"):
                raise self.wrong(f"')' is missing for the '(' in column {start + 1}")
            return inner
        return self._test()

    def _test(self) -> Node:
        self._skip()
        start = self.at
        what = self.field()
        kind, operators = KINDS[what.name]
        self._skip()
        word, op_at = self._word(), self.at
        if word in ("in", "not"):
            self._take_word()
            if word == "not":
                if self._word() != "in":
                    raise self.wrong("'in' is expected after 'not' here; to negate a condition write 'not' before it")
                self._take_word()
            self._allowed(what, "in", operators, op_at)
            test = Test(what, "in", self._values(kind), start + 1)
            return Not(test) if word == "not" else test
        found = _OPERATOR.match(self.text, self.at)
        op = "" if found is None else "=" if found[0] == "==" else found[0]
        self._allowed(what, op, operators, op_at)
        if found is None:
            return Test(what, "", None, start + 1)
        self.at = found.end()
        return Test(what, op, self._value(kind, op), start + 1)

    def field(self) -> Field:
        self._skip()
        start = self.at
        found = _NAME.match(self.text, start)
        if found is None or (found[0].lower() in ("and", "or", "in") and found[0] not in KINDS):
            raise self.wrong(f"a field is missing here; fields are {', '.join(KINDS)}")
        self.at = found.end()
        name = _RECORD_NAMES.get(found[0], found[0])
        if name not in KINDS:
            hint = f"; do you mean metadata.{found[0]}?" if name.isidentifier() else ""
            raise self.wrong(f"there is no field {found[0]!r}; fields are {', '.join(KINDS)}{hint}", start)
        keys, quoted = self._keys()
        if (name == "metadata") != bool(keys):
            more = "write metadata.NAME" if name == "metadata" else f"{name} has no fields inside"
            raise self.wrong(more, start)
        return Field(name, () if not keys else tuple(keys) if quoted else ".".join(keys))

    def _keys(self) -> tuple[list[str], bool]:
        keys, quoted = [], False
        while self.text.startswith(".", self.at):
            self.at += 1
            if (text := _QUOTED.match(self.text, self.at)) is not None:
                keys.append(_unquoted(text))
                quoted, self.at = True, text.end()
            elif (name := _NAME.match(self.text, self.at)) is not None:
                keys.append(name[0])
                self.at = name.end()
            else:
                raise self.wrong("a name is missing after '.'")
        return keys, quoted

    def _allowed(self, what: Field, op: str, operators: tuple[str, ...], at: int) -> None:
        if op in operators:
            return
        known = ", ".join(operator for operator in operators if operator)
        if not op:
            raise self.wrong(f"an operator is missing after {what}: {known}", at)
        hint = f"; write not {what} = ..." if op == "!=" else ""
        raise self.wrong(f"{op!r} does not go with {what.name}, which takes {known}{hint}", at)

    def _values(self, kind: str) -> tuple[Any, ...]:
        if not self._mark("("):
            raise self.wrong("a list such as (a, b) is expected after 'in'")
        values = [self._value(kind, "in")]
        while self._mark(","):
            values.append(self._value(kind, "in"))
        if not self._mark(")"):
            raise self.wrong("',' or ')' is expected in the list")
        return tuple(values)

    def _value(self, kind: str, op: str) -> Any:
        self._skip()
        start = self.at
        quoted = _QUOTED.match(self.text, start)
        found = quoted or _BARE.match(self.text, start)
        if found is None:
            unclosed = self.text[start : start + 1] in ("'", '"') and self.text[start : start + 1]
            raise self.wrong("this quote is never closed" if unclosed else f"a value is missing after {op!r}")
        self.at = found.end()
        text = _unquoted(quoted) if quoted else found[0]
        try:
            return _typed(text, quoted is not None, "text" if op == ":" and kind != "digest" else kind)
        except InvalidInput as error:
            raise self.wrong(str(error), start) from None

    def _skip(self) -> None:
        space = _SPACE.match(self.text, self.at)
        assert space is not None
        self.at = space.end()

    def _word(self) -> str:
        """The keyword that comes next, or nothing."""
        self._skip()
        found = _WORD.match(self.text, self.at)
        return found[1].lower() if found else ""

    def _take_word(self) -> None:
        found = _WORD.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def _mark(self, mark: str) -> bool:
        self._skip()
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True


def _typed(text: str, quoted: bool, kind: str) -> Any:
    """A value of a kind of field. Raises ``InvalidInput`` saying what is expected."""
    if kind == "json":
        if quoted:
            return text
        if text in CONSTANTS:
            return CONSTANTS[text]
        return _number(text) if _NUMBER.fullmatch(text) else text
    if kind == "digest":
        if not re.fullmatch(r"[0-9a-fA-F]{6,64}", text):
            raise InvalidInput(f"checksum {text!r} must be 6 to 64 hexadecimal digits")
        return text.lower()
    if kind == "bytes":
        found = size_bytes(text)
        if found is None:
            raise InvalidInput(f"size {text!r} is none; write bytes or e.g. 10K, 1.5M, 2GiB (powers of 1024)")
        return found
    if kind == "number":
        if not re.fullmatch(r"v?[0-9]{1,15}", text):
            raise InvalidInput(f"{text!r} is no whole number")
        return int(text.lstrip("v"))
    if kind == "time":
        return moment(text).timestamp()
    return seconds(text, "age") if kind == "duration" else text


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _unquoted(found: re.Match[str]) -> str:
    inner = found[1] if found[1] is not None else found[2]
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)
