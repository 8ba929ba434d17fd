"""Bytes at rest that are read in pieces, so that a checkpoint of any size costs what is looked at, not what it holds.

Does no I/O: whoever opens a file hands over an object with this shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from truerun.core.errors import FormatError


class Source(Protocol):
    """`size` bytes that do not change while they are read; `read_at` returns exactly *count* bytes or raises FormatError."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """*count* bytes from *offset*; raises FormatError where they reach past the end."""
        ...


@dataclass(frozen=True, slots=True)
class MemorySource:
    """A source over bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def read_at(self, offset: int, count: int) -> bytes:
        """*count* bytes from *offset*; raises FormatError where they reach past the end."""
        check_range(self, offset, count)
        return self.data[offset : offset + count]


@dataclass(frozen=True, slots=True)
class PartSource:
    """*size* bytes of *whole*, from *start*: one member of an archive."""

    whole: Source
    start: int
    size: int

    def read_at(self, offset: int, count: int) -> bytes:
        """*count* bytes from *offset*; raises FormatError where they reach past the end."""
        check_range(self, offset, count)
        return self.whole.read_at(self.start + offset, count)


def check_range(source: Source, offset: int, count: int) -> None:
    """Raise FormatError unless *count* bytes from *offset* lie inside *source*."""
    if offset < 0 or count < 0 or offset + count > source.size:
        raise FormatError("the file ends early", got=f"{source.size} bytes", expected=f"{count} bytes at {offset}")
