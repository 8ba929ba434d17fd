"""The SSH wire encoding (RFC 4251 section 5), as far as signatures and keys need it: strings, 32-bit numbers, nothing left over."""

from __future__ import annotations

import base64
import binascii

from truerun.core.errors import FormatError

MAX_STRING_BYTES = 64 * 1024


def wire_string(data: bytes) -> bytes:
    """*data* as an SSH `string`: its length as uint32, then its bytes."""
    return len(data).to_bytes(4, "big") + data


class WireReader:
    """Reads one encoded value from front to back; every method raises FormatError where the bytes do not fit."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def take(self, count: int) -> bytes:
        """The next *count* bytes."""
        end = self._at + count
        if end > len(self._data):
            raise FormatError(f"{self._what} ends too early", got=f"{len(self._data)} bytes", expected=f"at least {end}")
        part = self._data[self._at : end]
        self._at = end
        return part

    def uint32(self) -> int:
        """The next unsigned 32-bit number."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """The next length-prefixed string."""
        count = self.uint32()
        if count > MAX_STRING_BYTES:
            raise FormatError(f"{self._what} holds a string that is too long", got=count, expected=f"at most {MAX_STRING_BYTES}")
        return self.take(count)

    def end(self) -> None:
        """Nothing may be left over."""
        if self._at != len(self._data):
            raise FormatError(f"{self._what} has bytes left over", got=f"{len(self._data) - self._at} bytes")


def parse_base64(text: str, what: str) -> bytes:
    """Bytes of standard, padded base64; raises FormatError for anything that would not be rendered the same."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise FormatError(f"{what} is not base64", got=repr(text[:40])) from error
    if render_base64(data) != text:  # stray bits in the last character
        raise FormatError(f"{what} is not canonical base64", got=repr(text[-8:]))
    return data


def render_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")
