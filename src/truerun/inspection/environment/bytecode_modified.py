"""Rule `bytecode-modified`: Python would run compiled bytecode that its own source does not compile to.

RECORD lists bytecode without a hash, so a `.pyc` can be rewritten beside an untouched source. The source is compiled (not
run) and both are compared. Looks only at bytecode of the Python that runs Truerun, and only where Python would use it:
its header has to fit the source. Source: PEP 552, `importlib._bootstrap_external`.
"""

from __future__ import annotations

import importlib.util
import marshal
import struct
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from truerun.core.errors import FormatError
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.environment.marshalled import VERSIONS, parse_marshalled

RULE = Rule(
    id="bytecode-modified",
    summary="Python would run bytecode that its source does not compile to",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0010.001",
)
_HEADER_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytecode:
    """One source file and the bytecode beside it; `modified_seconds` is the source's modification time as a whole number."""

    owner: str
    source_path: str
    path: str
    source: bytes
    compiled: bytes
    modified_seconds: int


def check_bytecode(files: Iterable[Bytecode]) -> tuple[Finding, ...]:
    """One finding for each file whose bytecode would be used and is not its source's."""
    return tuple(_finding(file, why) for file in files if (why := explain_difference(file)) is not None)


def explain_difference(file: Bytecode) -> str | None:
    """Why the bytecode is not its source's, in words; None when it is, or when Python would not use it."""
    if sys.version_info[:2] not in VERSIONS or not is_used(file):
        return None
    try:
        found = parse_marshalled(file.compiled[_HEADER_BYTES:])
    except FormatError as error:
        return error.message
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(file.source, "<source>", "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "its source does not compile"
    return None if parse_marshalled(marshal.dumps(code)) == found else "its source compiles to something else"


def is_used(file: Bytecode) -> bool:
    """Whether this Python would take the bytecode: its magic, and a header that fits the source or is never checked."""
    head = file.compiled[:_HEADER_BYTES]
    if len(head) < _HEADER_BYTES or head[:4] != importlib.util.MAGIC_NUMBER:
        return False
    flags, modified, size = struct.unpack("<III", head[4:])
    if flags == 0:
        return bool(modified == file.modified_seconds & 0xFFFFFFFF and size == len(file.source) & 0xFFFFFFFF)
    return bool(flags == 1 or (flags == 3 and head[8:] == importlib.util.source_hash(file.source)))


def _finding(file: Bytecode, why: str) -> Finding:
    return RULE.finding(
        Subject(kind="environment", name=file.owner, key=file.path),
        f"{file.path} is not the bytecode of {file.source_path}: {why}. Python runs the bytecode. Keep a copy, then delete it; "
        "Python writes it anew.",
        evidence={"source": file.source_path, "why": why},
        location=Location(path=file.path),
        remedy=f"rm {file.path}",
    )
