"""The members of a ZIP archive, read strictly: one list of members that every reader agrees on, or none.

Scanners have been bypassed by archives that two readers see differently (changed local names, flag bits, appended or
prepended data). So: the archive begins at byte 0 and ends with its end record, every member's local header says what the
directory says, members do not overlap, names are plain and unique, nothing is encrypted. APPNOTE.TXT 6.3.10 section 4.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from truerun.core.errors import FormatError
from truerun.inspection.weights.source import MemorySource, PartSource, Source

MAX_MEMBERS = 200_000
MAX_INFLATED_BYTES = 64 << 20
STORED, DEFLATED = 0, 8
_ENCRYPTED, _DESCRIPTOR = 0x1, 0x8
_END, _END64, _LOCATOR64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_CENTRAL, _LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
_FULL32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member: where its data starts in the archive, how long it is stored and unpacked, and how it is packed."""

    name: str
    start: int
    stored: int
    size: int
    method: int
    crc: int


def list_members(source: Source) -> tuple[Member, ...]:
    """Every member of the ZIP archive *source*, by position; raises FormatError unless it is strictly well-formed."""
    offset, size, count = _find_directory(source)
    directory = source.read_at(offset, size)
    members: list[Member] = []
    spans: list[tuple[int, int]] = []
    at = 0
    for _ in range(count):
        member, begin, at = _read_entry(source, directory, at)
        members.append(member)
        spans.append((begin, member.start + member.stored))
    if at != len(directory):
        raise FormatError("a ZIP directory with something left over", got=f"{len(directory) - at} bytes")
    _check_spans(spans, offset)
    if len({member.name for member in members}) != len(members):
        raise FormatError("a ZIP archive with a member name used twice")
    return tuple(sorted(members, key=lambda member: member.start))


def open_member(source: Source, member: Member) -> Source:
    """The content of *member*; checks the CRC of what has to be unpacked. Raises FormatError."""
    part = PartSource(source, member.start, member.stored)
    if member.method == STORED:
        return part
    if member.size > MAX_INFLATED_BYTES:
        raise FormatError("a compressed member that is too large to look into", got=member.name, expected=MAX_INFLATED_BYTES)
    try:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        data = unpacker.decompress(part.read_at(0, member.stored), member.size + 1)
    except zlib.error as error:
        raise FormatError("a compressed member that does not unpack", got=member.name) from error
    if len(data) != member.size or not unpacker.eof or unpacker.unused_data or zlib.crc32(data) != member.crc:
        raise FormatError("a compressed member that is not what the directory says", got=member.name)
    return MemorySource(data)


def verify_crc(source: Source, member: Member) -> None:
    """Raise FormatError unless the stored *member* has the CRC-32 that the directory gives."""
    if member.method == STORED and zlib.crc32(source.read_at(member.start, member.stored)) != member.crc:
        raise FormatError("a member whose checksum is wrong", got=member.name)


def _find_directory(source: Source) -> tuple[int, int, int]:
    end_at = source.size - _END.size
    if end_at < 0:
        raise FormatError("a ZIP archive that ends early")
    magic, disk, first_disk, here, count, size, offset, comment = _END.unpack(source.read_at(end_at, _END.size))
    if magic != b"PK\x05\x06" or comment:
        raise FormatError("a ZIP archive without its end record at the end", expected="no comment, nothing appended")
    if 0xFFFF in (here, count) or _FULL32 in (size, offset) or _has_locator(source, end_at):
        return _find_directory64(source, end_at)
    if disk or first_disk or here != count or offset + size != end_at:
        raise FormatError("a ZIP end record that does not fit the file")
    return _bounded(offset, size, count)


def _has_locator(source: Source, end_at: int) -> bool:
    at = end_at - _LOCATOR64.size
    return at >= 0 and source.read_at(at, 4) == b"PK\x06\x07"


def _find_directory64(source: Source, end_at: int) -> tuple[int, int, int]:
    at = end_at - _LOCATOR64.size
    magic, disk, record_at, disks = _LOCATOR64.unpack(source.read_at(at, _LOCATOR64.size))
    if magic != b"PK\x06\x07" or disk or disks != 1 or record_at + _END64.size != at:
        raise FormatError("a ZIP64 locator that does not fit the file")
    fields = _END64.unpack(source.read_at(record_at, _END64.size))
    magic, length, _, _, disk, first_disk, here, count, size, offset = fields
    if magic != b"PK\x06\x06" or length != _END64.size - 12 or disk or first_disk or here != count:
        raise FormatError("a ZIP64 end record that does not fit the file")
    # Where the short end record gives a number at all, it has to be the same one.
    _, _, _, _, short_count, short_size, short_offset, _ = _END.unpack(source.read_at(end_at, _END.size))
    agree = short_count in (count, 0xFFFF) and short_size in (size, _FULL32) and short_offset in (offset, _FULL32)
    if not agree or offset + size != record_at:
        raise FormatError("a ZIP64 end record that contradicts the short one")
    return _bounded(offset, size, count)


def _bounded(offset: int, size: int, count: int) -> tuple[int, int, int]:
    if count > MAX_MEMBERS or size > MAX_MEMBERS * 1024:
        raise FormatError("a ZIP archive with too many members", got=count, expected=f"at most {MAX_MEMBERS}")
    return offset, size, count


def _read_entry(source: Source, directory: bytes, at: int) -> tuple[Member, int, int]:
    if at + _CENTRAL.size > len(directory):
        raise FormatError("a ZIP directory that ends early")
    fields = _CENTRAL.unpack_from(directory, at)
    magic, _, _, flags, method, _, _, crc, stored, size, name_size, extra_size, comment_size, disk, _, _, begin = fields
    at += _CENTRAL.size
    raw_name, extra = directory[at : at + name_size], directory[at + name_size : at + name_size + extra_size]
    at += name_size + extra_size + comment_size
    if magic != b"PK\x01\x02" or disk or at > len(directory):
        raise FormatError("a ZIP directory entry that does not fit")
    size, stored, begin = _wide(extra, size, stored, begin)
    name = _check_name(raw_name)
    if flags & ~(_DESCRIPTOR | 0x806) or method not in (STORED, DEFLATED):
        raise FormatError("a ZIP member that is encrypted or packed in another way", got=name)
    if method == STORED and stored != size:
        raise FormatError("a stored ZIP member with two sizes", got=name)
    start = _check_local(source, begin, raw_name, (flags, method, crc, stored, size))
    return Member(name=name, start=start, stored=stored, size=size, method=method, crc=crc), begin, at


def _wide(extra: bytes, *numbers: int) -> tuple[int, int, int]:
    """Replace what is 0xFFFFFFFF by the ZIP64 extra field's numbers, in its order (APPNOTE 4.5.3)."""
    at, wide = 0, b""
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        if tag == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    result = []
    for number in numbers:
        if number == _FULL32:
            if len(wide) < 8:
                raise FormatError("a ZIP64 member without its sizes")
            number, wide = int.from_bytes(wide[:8], "little"), wide[8:]  # noqa: PLW2901
        result.append(number)
    return result[0], result[1], result[2]


def _check_local(source: Source, begin: int, raw_name: bytes, said: tuple[int, int, int, int, int]) -> int:
    magic, _, flags, method, _, _, crc, stored, size, name_size, extra_size = _LOCAL.unpack(source.read_at(begin, _LOCAL.size))
    local_name = source.read_at(begin + _LOCAL.size, name_size)
    extra = source.read_at(begin + _LOCAL.size + name_size, extra_size)
    if magic != b"PK\x03\x04" or local_name != raw_name or (flags, method) != said[:2]:
        raise FormatError("a ZIP member whose own header is not what the directory says", got=repr(raw_name[:60]))
    if not (flags & _DESCRIPTOR and (crc, stored, size) == (0, 0, 0)):
        size, stored, _ = _wide(extra, size, stored, 0)
        # A writer that streams leaves zeros; any other number has to be the directory's.
        pairs = zip((crc, stored, size), said[2:], strict=True)
        if any(here not in ((there, 0) if flags & _DESCRIPTOR else (there,)) for here, there in pairs):
            raise FormatError("a ZIP member whose own sizes are not what the directory says", got=repr(raw_name[:60]))
    return begin + _LOCAL.size + int(name_size) + int(extra_size)


def _check_name(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("a ZIP member whose name is not UTF-8", got=repr(raw[:60])) from error
    plain = name.isprintable() and "\\" not in name and not name.startswith("/") and ".." not in name.split("/")
    if not name or not plain:
        raise FormatError("a ZIP member with a name that leaves the archive or hides", got=repr(name[:60]))
    return name


def _check_spans(spans: list[tuple[int, int]], directory_at: int) -> None:
    """Members follow one another from byte 0 up to the directory; between them only data descriptors (24 bytes) fit."""
    position = 0
    for begin, end in sorted(spans):
        if begin < position or begin > position + 24:
            raise FormatError("a ZIP archive with overlapping members or hidden data between them", got=f"byte {begin}")
        position = end
    if not position <= directory_at <= position + 24:
        raise FormatError("a ZIP archive with overlapping members or hidden data before its directory")
