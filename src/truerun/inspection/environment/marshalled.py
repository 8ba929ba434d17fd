"""A code object's marshalled form as plain values, read without making a code object: hostile bytes can crash `marshal`.

Two forms compare equal when they would run alike: how strings are interned and shared, and file names, do not count.
Source: CPython `Python/marshal.c`, version 4, code objects of 3.11 to 3.13.
"""

from __future__ import annotations

import struct
from typing import Any

from truerun.core.errors import FormatError

VERSIONS = ((3, 11), (3, 12), (3, 13))
MAX_DEPTH = 200
MAX_ITEMS = 5_000_000
_SHARED = 0x80
_FIELDS = "code consts names localsplusnames localspluskinds filename name qualname".split()  # noqa: SIM905
_SINGLE = {"N": "None", "T": "True", "F": "False", ".": "Ellipsis", "S": "StopIteration"}


def parse_marshalled(data: bytes) -> Any:
    """The value that *data* holds, as tuples that begin with its kind; raises FormatError unless it is exactly one value."""
    reader = _Reader(data)
    try:
        value = reader.read(0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise FormatError("bytecode that ends early or holds broken text") from error
    if reader.position != len(data):
        raise FormatError("bytecode with something after its end", got=f"{len(data) - reader.position} bytes")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._shared: list[Any] = []
        self._items = 0
        self.position = 0

    def read(self, depth: int) -> Any:
        self._items += 1
        if depth > MAX_DEPTH or self._items > MAX_ITEMS:
            raise FormatError("bytecode that is nested too deeply or too large")
        kind = self._data[self.position]
        self.position += 1
        place = None
        if kind & _SHARED:
            place = len(self._shared)
            self._shared.append(None)
        value = self._value(chr(kind & ~_SHARED), depth)
        if place is not None:
            self._shared[place] = value
        return value

    def _value(self, kind: str, depth: int) -> Any:
        if kind in _SINGLE:
            return (_SINGLE[kind],)
        if kind == "r":
            return self._shared[self._number()]
        if kind == "i":
            return "int", self._number()
        if kind == "l":
            return self._long()
        if kind in "gy":
            return "float", self._take(8 if kind == "g" else 16)
        if kind in "sAauztZ":
            return self._text(kind)
        if kind in "()<>[":
            count = self._take(1)[0] if kind == ")" else self._number()
            items = tuple(self.read(depth + 1) for _ in range(self._bounded(count)))
            return ("set", frozenset(items)) if kind in "<>" else ("tuple", items)
        if kind == "c":
            return self._code(depth)
        raise FormatError("bytecode with a value that compiled code never holds", got=repr(kind))

    def _code(self, depth: int) -> Any:
        head = tuple(self._number() for _ in range(5))
        fields = [self.read(depth + 1) for _ in _FIELDS]
        line = self._number()
        tables = self.read(depth + 1), self.read(depth + 1)
        return ("code", head, *(field for name, field in zip(_FIELDS, fields, strict=True) if name != "filename"), line, tables)

    def _text(self, kind: str) -> Any:
        size = self._take(1)[0] if kind in "zZ" else self._number()
        data = self._take(self._bounded(size))
        return ("bytes", data) if kind == "s" else ("text", data.decode("utf-8", "surrogatepass"))

    def _long(self) -> Any:
        count = self._number()
        digits = [int(struct.unpack("<H", self._take(2))[0]) for _ in range(self._bounded(abs(count)))]
        value = sum(digit << (15 * place) for place, digit in enumerate(digits))
        return "int", -value if count < 0 else value

    def _number(self) -> int:
        return int(struct.unpack("<i", self._take(4))[0])

    def _bounded(self, count: int) -> int:
        if not 0 <= count <= len(self._data) - self.position:
            raise FormatError("bytecode with a length that does not fit", got=count)
        return count

    def _take(self, count: int) -> bytes:
        data = self._data[self.position : self.position + count]
        if len(data) != count:
            raise IndexError
        self.position += count
        return data
