"""A distribution's RECORD: its files with the hashes they had when they were installed. Source: PEP 376, PEP 627.

Does not read files. A RECORD can be rewritten by whoever can edit the files, so a lock keeps its digest.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
from dataclasses import dataclass

from truerun.core.digest import Digest
from truerun.core.errors import FormatError

MAX_RECORD_BYTES = 64 << 20
ALGORITHMS = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEntry:
    """One installed file: `path` as RECORD writes it (relative to site-packages or absolute), its digest if it has one."""

    path: str
    digest: Digest | None
    size: int | None


def parse_record(text: str) -> tuple[RecordEntry, ...]:
    """Every line of a RECORD; raises FormatError for one that is not `path,algorithm=hash,size`."""
    if len(text) > MAX_RECORD_BYTES:
        raise FormatError("a RECORD that is too large", got=len(text), expected=MAX_RECORD_BYTES)
    try:
        return tuple(_entry(row) for row in csv.reader(io.StringIO(text), strict=True) if row)
    except csv.Error as error:
        raise FormatError("a RECORD that is not CSV", got=str(error)) from error


def _entry(row: list[str]) -> RecordEntry:
    if len(row) != 3 or not row[0]:
        raise FormatError("a RECORD line that is not path,hash,size", got=",".join(row)[:80])
    path, hashed, size = row
    if size and not size.isdecimal():
        raise FormatError("a RECORD size that is not a number", got=size[:40])
    return RecordEntry(path=path, digest=_digest(hashed) if hashed else None, size=int(size) if size else None)


def _digest(text: str) -> Digest:
    """`sha256=<urlsafe base64 without padding>` (PEP 376)."""
    algorithm, _, value = text.partition("=")
    if algorithm not in ALGORITHMS:
        raise FormatError("a RECORD hash that proves nothing", got=algorithm[:20], expected=", ".join(ALGORITHMS))
    try:
        raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError) as error:
        raise FormatError("a RECORD hash that is not base64", got=value[:40]) from error
    return Digest(algorithm, raw.hex())
