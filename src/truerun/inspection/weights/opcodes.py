"""A strict reader of pickle opcodes, protocols 0 to 5. It builds nothing and imports nothing.

Stricter than every unpickler, so that no unpickler sees more than this reader does: opcodes may not be newer than the
declared protocol, no opcode may straddle a frame, frames may not nest, arguments are bounded. The meaning of each opcode
is CPython's `Lib/pickletools.py`; framing is PEP 3154.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from truerun.core.errors import FormatError
from truerun.inspection.weights.source import Source

MAX_OPCODES = 20_000_000
MAX_LINE_BYTES = 4096
MAX_TEXT_BYTES = 1 << 20
_WINDOW_BYTES = 1 << 16
_INTEGER = re.compile(rb"[+-]?[0-9]{1,2000}")
_FLOAT = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|nan)")


@dataclass(frozen=True, slots=True)
class Bulk:
    """Bytes or text that was skipped, not read: only its length in bytes is known."""

    size: int


@dataclass(frozen=True, slots=True)
class Opcode:
    """One opcode: its name, where it starts, and its argument where it carries one."""

    name: str
    offset: int
    argument: object = None


# name, first protocol that has it, form of the argument
_TABLE: dict[int, tuple[str, int, str]] = {
    ord(code): (name, protocol, form)
    for code, name, protocol, form in (
        ("(", "MARK", 0, ""),
        (".", "STOP", 0, ""),
        ("0", "POP", 0, ""),
        ("1", "POP_MARK", 1, ""),
        ("2", "DUP", 0, ""),
        ("F", "FLOAT", 0, "float-line"),
        ("I", "INT", 0, "int-line"),
        ("J", "BININT", 1, "i4"),
        ("K", "BININT1", 1, "u1"),
        ("L", "LONG", 0, "long-line"),
        ("M", "BININT2", 1, "u2"),
        ("N", "NONE", 0, ""),
        ("P", "PERSID", 0, "line"),
        ("Q", "BINPERSID", 1, ""),
        ("R", "REDUCE", 0, ""),
        ("S", "STRING", 0, "quoted-line"),
        ("T", "BINSTRING", 1, "bytes4s"),
        ("U", "SHORT_BINSTRING", 1, "bytes1"),
        ("V", "UNICODE", 0, "unicode-line"),
        ("X", "BINUNICODE", 1, "text4"),
        ("a", "APPEND", 0, ""),
        ("b", "BUILD", 0, ""),
        ("c", "GLOBAL", 0, "two-lines"),
        ("d", "DICT", 0, ""),
        ("}", "EMPTY_DICT", 1, ""),
        ("e", "APPENDS", 1, ""),
        ("g", "GET", 0, "int-line"),
        ("h", "BINGET", 1, "u1"),
        ("i", "INST", 0, "two-lines"),
        ("j", "LONG_BINGET", 1, "u4"),
        ("l", "LIST", 0, ""),
        ("]", "EMPTY_LIST", 1, ""),
        ("o", "OBJ", 1, ""),
        ("p", "PUT", 0, "int-line"),
        ("q", "BINPUT", 1, "u1"),
        ("r", "LONG_BINPUT", 1, "u4"),
        ("s", "SETITEM", 0, ""),
        ("t", "TUPLE", 0, ""),
        (")", "EMPTY_TUPLE", 1, ""),
        ("u", "SETITEMS", 1, ""),
        ("G", "BINFLOAT", 1, "f8"),
        ("B", "BINBYTES", 3, "bytes4"),
        ("C", "SHORT_BINBYTES", 3, "bytes1"),
        ("\x80", "PROTO", 2, "u1"),
        ("\x81", "NEWOBJ", 2, ""),
        ("\x82", "EXT1", 2, "u1"),
        ("\x83", "EXT2", 2, "u2"),
        ("\x84", "EXT4", 2, "i4"),
        ("\x85", "TUPLE1", 2, ""),
        ("\x86", "TUPLE2", 2, ""),
        ("\x87", "TUPLE3", 2, ""),
        ("\x88", "NEWTRUE", 2, ""),
        ("\x89", "NEWFALSE", 2, ""),
        ("\x8a", "LONG1", 2, "long1"),
        ("\x8b", "LONG4", 2, "long4"),
        ("\x8c", "SHORT_BINUNICODE", 4, "text1"),
        ("\x8d", "BINUNICODE8", 4, "text8"),
        ("\x8e", "BINBYTES8", 4, "bytes8"),
        ("\x8f", "EMPTY_SET", 4, ""),
        ("\x90", "ADDITEMS", 4, ""),
        ("\x91", "FROZENSET", 4, ""),
        ("\x92", "NEWOBJ_EX", 4, ""),
        ("\x93", "STACK_GLOBAL", 4, ""),
        ("\x94", "MEMOIZE", 4, ""),
        ("\x95", "FRAME", 4, "u8"),
        ("\x96", "BYTEARRAY8", 5, "bytes8"),
        ("\x97", "NEXT_BUFFER", 5, ""),
        ("\x98", "READONLY_BUFFER", 5, ""),
    )
}
_NUMBERS = {"u1": "<B", "u2": "<H", "i4": "<i", "u4": "<I", "u8": "<Q", "f8": ">d"}


class _Cursor:
    """Reads forward through a window of the source; `position` is the offset of the next byte."""

    def __init__(self, source: Source, position: int) -> None:
        self._source = source
        self._window = b""
        self._start = position
        self.position = position

    def take(self, count: int) -> bytes:
        begin = self.position - self._start
        if begin < 0 or begin + count > len(self._window):
            length = min(max(count, _WINDOW_BYTES), self._source.size - self.position)
            self._window = self._source.read_at(self.position, max(length, count))
            self._start, begin = self.position, 0
        self.position += count
        return self._window[begin : begin + count]

    def skip(self, count: int) -> None:
        if self.position + count > self._source.size:
            raise FormatError("a pickle that ends inside an argument", got=f"{self._source.size} bytes")
        self.position += count

    def line(self) -> bytes:
        available = min(MAX_LINE_BYTES, self._source.size - self.position)
        text, newline, _ = self.take(available).partition(b"\n")
        self.position -= available
        if not newline:
            raise FormatError("a pickle line without an end", got=text[:40], expected=f"a newline within {MAX_LINE_BYTES} bytes")
        self.position += len(text) + 1
        return text


def read_opcodes(source: Source, start: int = 0) -> Iterator[Opcode]:
    """
    Every opcode of the pickle that begins at *start*, up to and with STOP.

    Raises FormatError at the first byte that is not strictly well-formed; what was yielded before stands.
    """
    cursor = _Cursor(source, start)
    protocol, frame_end = 0, None
    for count in range(MAX_OPCODES):
        offset = cursor.position
        code = cursor.take(1)[0]
        if code not in _TABLE:
            raise FormatError("an unknown pickle opcode", got=f"0x{code:02x} at byte {offset}")
        name, since, form = _TABLE[code]
        argument = _read_argument(cursor, form) if form else None
        if name == "PROTO":
            protocol = _check_protocol(argument, count, offset)
        elif since > max(protocol, 1):
            raise FormatError(f"{name} in a pickle of protocol {protocol}", got=f"byte {offset}", expected=f"protocol {since}")
        if frame_end is not None and cursor.position > frame_end:
            raise FormatError(f"{name} straddles the end of a frame", got=f"byte {offset}", expected=f"an end at {frame_end}")
        if name == "FRAME":
            if frame_end is not None and offset < frame_end:
                raise FormatError("a frame inside a frame", got=f"byte {offset}")
            frame_end = cursor.position + int(str(argument))
            if frame_end > source.size:
                raise FormatError("a frame that reaches past the end", got=f"byte {offset}", expected=f"at most {source.size}")
        yield Opcode(name, offset, argument)
        if frame_end is not None and cursor.position == frame_end:
            frame_end = None
        if name == "STOP":
            if frame_end is not None:
                raise FormatError("STOP before the end of its frame", got=f"byte {offset}", expected=f"byte {frame_end - 1}")
            return
    raise FormatError("a pickle with too many opcodes", expected=f"at most {MAX_OPCODES}")


def _check_protocol(argument: object, count: int, offset: int) -> int:
    if count:
        raise FormatError("a second protocol header", got=f"byte {offset}", expected="one, at the start")
    if argument not in (2, 3, 4, 5):
        raise FormatError("a pickle protocol that does not exist", got=argument, expected="2 to 5 where there is a header")
    return int(str(argument))


def _read_argument(cursor: _Cursor, form: str) -> object:
    if form in _NUMBERS:
        layout = _NUMBERS[form]
        return struct.unpack(layout, cursor.take(struct.calcsize(layout)))[0]
    if form.startswith(("bytes", "text")):
        return _read_sized(cursor, form)
    if form in ("long1", "long4"):
        size = _read_size(cursor, form[-1] + "s" if form == "long4" else "1")
        if size > MAX_LINE_BYTES:
            raise FormatError("an integer that is too long", got=f"{size} bytes", expected=f"at most {MAX_LINE_BYTES}")
        return int.from_bytes(cursor.take(size), "little", signed=True)
    if form == "two-lines":
        return _plain(cursor.line()), _plain(cursor.line())
    return _read_line(cursor.line(), form)


def _read_size(cursor: _Cursor, width: str) -> int:
    layout = {"1": "<B", "4": "<I", "8": "<Q", "4s": "<i"}[width]
    size = int(struct.unpack(layout, cursor.take(struct.calcsize(layout)))[0])
    if size < 0:
        raise FormatError("a negative length in a pickle", got=size)
    return size


def _read_sized(cursor: _Cursor, form: str) -> object:
    kind, width = ("text", form[4:]) if form.startswith("text") else ("bytes", form[5:])
    size = _read_size(cursor, width)
    if kind == "bytes" or size > MAX_TEXT_BYTES:
        if kind == "bytes" and size <= 64:
            return cursor.take(size)
        cursor.skip(size)
        return Bulk(size)
    try:
        return cursor.take(size).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise FormatError("text in a pickle that is not UTF-8", got=f"byte {cursor.position - size + error.start}") from error


def _read_line(line: bytes, form: str) -> object:
    if form == "int-line":
        if line in (b"00", b"01"):
            return line == b"01"
        if not _INTEGER.fullmatch(line):
            raise FormatError("not an integer in a pickle", got=line[:40])
        return int(line)
    if form == "long-line":
        digits = line.removesuffix(b"L")
        if not _INTEGER.fullmatch(digits):
            raise FormatError("not an integer in a pickle", got=line[:40])
        return int(digits)
    if form == "float-line":
        if not _FLOAT.fullmatch(line):
            raise FormatError("not a number in a pickle", got=line[:40])
        return float(line)
    if form == "quoted-line":
        if len(line) < 2 or line[:1] not in b"'\"" or line[-1:] != line[:1]:
            raise FormatError("a pickle string without quotes", got=line[:40])
        line = line[1:-1]
    # Escapes are not decoded: such text stays opaque, so that it can never name a global.
    return Bulk(len(line)) if b"\\" in line or not line.isascii() else line.decode("ascii")


def _plain(line: bytes) -> str:
    if not line.isascii():
        raise FormatError("a global whose name is not ASCII", got=line[:40])
    return line.decode("ascii")
