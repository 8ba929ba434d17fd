"""Rule `unsafe-checkpoint`: loading this file would import or call something that no checkpoint needs, or cannot be foreseen.

The kind of file is decided by its content, never by its name. Nothing is loaded, unpickled or imported; torch is not
needed. Does not look at tensor values: a scaled weight is the matter of `checkpoint-drift`.
"""

from __future__ import annotations

from dataclasses import dataclass

from truerun.core.errors import FormatError
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.weights.archive import Member, list_members, open_member
from truerun.inspection.weights.arrays import MAGIC as ARRAY_MAGIC
from truerun.inspection.weights.arrays import verify_array
from truerun.inspection.weights.machine import Refusal
from truerun.inspection.weights.safetensors import looks_like_safetensors, verify_safetensors
from truerun.inspection.weights.source import PartSource, Source
from truerun.inspection.weights.torch_formats import archive_root, read_archive, read_stacked

RULE = Rule(
    id="unsafe-checkpoint",
    summary="loading this checkpoint would run code, or what it would do cannot be foreseen",
    severity=Severity.CRITICAL,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0011.000",
)
MAX_DEPTH = 3
_REMEDY = "do not load it; restore the approved file, or ask its author for the weights as safetensors"
_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!", "rar"))
_OTHER = ((b"\x89HDF\r\n\x1a\n", "HDF5"), (b"GGUF", "GGUF"))


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A format this rule does not know: neither a finding of harm nor an all-clear."""

    kind: str


def check_checkpoint(name: str, source: Source) -> tuple[Finding, ...]:
    """Findings about the checkpoint *name*, one for each of its parts that should not be loaded."""
    findings = []
    for part, outcome in _scan(source, 0):
        if isinstance(outcome, _Unknown):
            findings.append(_unknown(name, part, outcome))
        elif outcome:
            findings.append(_refused(name, part, outcome))
    return tuple(findings)


def _refused(name: str, part: str, refusals: tuple[Refusal, ...]) -> Finding:
    # What would be imported or called says most; what is merely malformed comes second.
    first = min(refusals, key=lambda refusal: (refusal.name is None, refusal.offset))
    where = f"{name} ({part})" if part else name
    place = f"{first.opcode} at byte {first.offset} " if first.opcode else ""
    more = f" ({len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return RULE.finding(
        Subject(kind="weights", name=name, key=part or None),
        f"{where}: {place}{first.why}{more}. Truerun did not load it; neither should a run.",
        severity=Severity.CRITICAL if first.name is not None else Severity.ERROR,
        evidence={
            "opcode": first.opcode or None,
            "offset": first.offset,
            "global": first.name,
            "refusals": [
                {"opcode": item.opcode, "offset": item.offset, "global": item.name, "why": item.why} for item in refusals
            ],
        },
        location=Location(path=name),
        remedy=_REMEDY,
    )


def _unknown(name: str, part: str, outcome: _Unknown) -> Finding:
    where = f"{name} ({part})" if part else name
    return RULE.finding(
        Subject(kind="weights", name=name, key=part or None),
        f"{where} is {outcome.kind}: what loading it does could not be told. It was not loaded.",
        severity=Severity.WARNING,
        confidence=Confidence.LOW,
        evidence={"format": outcome.kind},
        location=Location(path=name),
        remedy="store the weights as safetensors, or as a state dict of tensors",
    )


def _scan(source: Source, depth: int) -> list[tuple[str, tuple[Refusal, ...] | _Unknown]]:
    """Every part of *source* with what was found in it; the part of a plain file is ''."""
    try:
        return _scan_content(source, depth)
    except FormatError as error:
        got = f" (got {error.got})" if error.got is not None else ""
        return [("", (_malformed(f"cannot be read strictly: {error.message}{got}"),))]


def _scan_content(source: Source, depth: int) -> list[tuple[str, tuple[Refusal, ...] | _Unknown]]:
    head = source.read_at(0, min(16, source.size))
    packed = next((kind for magic, kind in _PACKED if head.startswith(magic)), None)
    other = next((kind for magic, kind in _OTHER if head.startswith(magic)), None)
    if not head:
        return [("", (_malformed("is empty"),))]
    if packed:
        return [("", (_malformed(f"is packed with {packed}, so that nothing can look inside before it is loaded"),))]
    if head.startswith(b"PK"):
        return _scan_archive(source, depth)
    if head.startswith(ARRAY_MAGIC):
        verify_array(source)
        return [("", ())]
    if looks_like_safetensors(source):
        verify_safetensors(source)
        return [("", ())]
    if _is_tar(source):
        return _scan_tar(source, depth)
    if other:
        return [("", _Unknown(f"an {other} file"))]
    return [("", _scan_pickle(source))]


def _scan_pickle(source: Source) -> tuple[Refusal, ...] | _Unknown:
    refusals = read_stacked(source)
    # An unpickler acts on each opcode as it comes: a broken pickle has done its work before it breaks. Only where nothing
    # but the break itself was found, and no protocol header stands at the start, may it be something else altogether.
    if len(refusals) == 1 and refusals[0].broken and source.read_at(0, 1) != b"\x80":
        return _Unknown("of a format Truerun does not know")
    return refusals


def _scan_archive(source: Source, depth: int) -> list[tuple[str, tuple[Refusal, ...] | _Unknown]]:
    members = list_members(source)
    root = archive_root(members)
    if root is not None:
        return [(f"{root}/data.pkl", read_archive(source, members, root))]
    if members and all(member.name.endswith(".npy") for member in members):
        return [(member.name, _array_of(source, member)) for member in members]
    found: list[tuple[str, tuple[Refusal, ...] | _Unknown]] = [
        ("", (_malformed("is a ZIP archive, but neither of torch's nor of NumPy's layout"),))
    ]
    if depth < MAX_DEPTH:
        for member in members:
            inner = _scan(open_member(source, member), depth + 1) if member.size else []
            found += [(f"{member.name}{'!' + part if part else ''}", what) for part, what in inner if isinstance(what, tuple)]
    return found


def _array_of(source: Source, member: Member) -> tuple[Refusal, ...]:
    try:
        verify_array(open_member(source, member))
    except FormatError as error:
        return (_malformed(f"{error.message} (got {error.got})"),)
    return ()


def _is_tar(source: Source) -> bool:
    """Whether the first block has a tar header's checksum; the magic alone would miss old-style headers."""
    if source.size < 512:
        return False
    block = source.read_at(0, 512)
    text = block[148:156].strip(b" \0")
    try:
        return int(text, 8) == sum(block[:148]) + 8 * 32 + sum(block[156:])
    except ValueError:
        return False


def _scan_tar(source: Source, depth: int) -> list[tuple[str, tuple[Refusal, ...] | _Unknown]]:
    found: list[tuple[str, tuple[Refusal, ...] | _Unknown]] = [
        ("", (_malformed("is a tar archive, whose members loaders unpack and unpickle one by one"),))
    ]
    at = 0
    for _ in range(10_000):
        if at + 512 > source.size or depth >= MAX_DEPTH:
            break
        block = source.read_at(at, 512)
        name = block[:100].rstrip(b"\0").decode("utf-8", "replace")
        digits = block[124:136].strip(b" \0")
        if not name or not digits.isdigit():
            break
        size = int(digits, 8)
        if size and at + 512 + size <= source.size:
            inner = _scan(PartSource(source, at + 512, size), depth + 1)
            found += [(f"{name}{'!' + part if part else ''}", what) for part, what in inner if isinstance(what, tuple)]
        at += 512 + (size + 511) // 512 * 512
    return found


def _malformed(why: str) -> Refusal:
    return Refusal(opcode="", offset=0, name=None, why=why)
