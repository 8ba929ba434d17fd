"""PyTorch's two checkpoint layouts, member by member: the ZIP archive of today and the stacked pickles of before 1.6.

Nothing is loaded; tensors' bytes are not read, only their sizes are compared with what the pickle says about them.
Source: `torch/serialization.py` (`_save`, `_legacy_save`) of 2.13.
"""

from __future__ import annotations

from truerun.core.errors import FormatError
from truerun.inspection.weights.archive import Member, open_member, verify_crc
from truerun.inspection.weights.machine import PickleReport, Refusal, Storage, read_pickle
from truerun.inspection.weights.source import Source

MAX_PICKLE_BYTES = 256 << 20
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
_PLAIN_MEMBERS = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")


def archive_root(members: tuple[Member, ...]) -> str | None:
    """The folder that holds `data.pkl`, where the archive is one of torch's; None otherwise."""
    roots = {member.name.partition("/")[0] for member in members}
    root = next(iter(roots)) if len(roots) == 1 else None
    return root if root and any(member.name == f"{root}/data.pkl" for member in members) else None


def read_archive(source: Source, members: tuple[Member, ...], root: str) -> tuple[Refusal, ...]:
    """Why not to load this archive of torch's. Raises FormatError where it is not well-formed."""
    by_name = {member.name.removeprefix(f"{root}/"): member for member in members}
    code = sorted(name for name in by_name if name.startswith("code/") or name == "constants.pkl")
    if code:
        return (_of_layout(f"carries code to run (TorchScript: {code[0]}); a checkpoint holds tensors"),)
    pickle = by_name["data.pkl"]
    if pickle.size > MAX_PICKLE_BYTES:
        raise FormatError("a data.pkl that is too large to look into", got=pickle.size, expected=MAX_PICKLE_BYTES)
    verify_crc(source, pickle)
    content = open_member(source, pickle)
    report = read_pickle(content, storages=True)
    refusals = list(report.refusals)
    if report.end is not None and report.end != content.size:
        refusals.append(_of_layout(f"{content.size - report.end} bytes follow the end of data.pkl"))
    return (*refusals, *_check_members(by_name, report))


def _check_members(by_name: dict[str, Member], report: PickleReport) -> list[Refusal]:
    refusals = []
    storages = {f"data/{storage.key}": storage for storage in report.storages}
    for name, member in by_name.items():
        if name == "data.pkl" or name in _PLAIN_MEMBERS:
            continue
        storage = storages.pop(name, None)
        if storage is None and report.end is not None:
            refusals.append(_of_layout(f"member {name} is not a storage that data.pkl names"))
        elif storage is not None and storage.size not in (None, member.size):
            refusals.append(_of_layout(f"member {name} has {member.size} bytes where data.pkl says {storage.size}"))
    if storages and report.end is not None:
        refusals.append(_of_layout(f"the tensor storage {next(iter(storages))} is missing"))
    return refusals


def read_stacked(source: Source) -> tuple[Refusal, ...]:
    """Why not to load *source*, which is one pickle, several on top of each other, or torch's legacy layout."""
    first = read_pickle(source)
    if first.value == MAGIC_NUMBER and first.end is not None:
        return first.refusals + _read_legacy(source, first.end)
    refusals, end = list(first.refusals), first.end
    while end is not None and end < source.size:
        report = read_pickle(source, end)
        refusals += report.refusals
        end = report.end
    return tuple(refusals)


def _read_legacy(source: Source, end: int) -> tuple[Refusal, ...]:
    refusals: list[Refusal] = []
    reports: list[PickleReport] = []
    for _ in ("protocol version", "system information", "object", "storage keys"):
        report = read_pickle(source, end, storages=True)
        refusals += report.refusals
        if report.end is None:
            return tuple(refusals)
        reports.append(report)
        end = report.end
    version, _, content, keys = reports
    if version.value != PROTOCOL_VERSION:
        refusals.append(_of_layout("not protocol version 1001"))
    return (*refusals, *_check_storages(source, end, content.storages, keys.value))


def _check_storages(source: Source, end: int, storages: tuple[Storage, ...], keys: object) -> list[Refusal]:
    """After the pickles stand the storages, each as its number of items (8 bytes) and their bytes."""
    by_key = {storage.key: storage for storage in storages}
    if not isinstance(keys, list) or set(map(str, keys)) != set(by_key) or len(keys) != len(by_key):
        return [_of_layout("the list of storages is not the one that the pickle names")]
    for key in keys:
        storage = by_key[str(key)]
        items = int.from_bytes(source.read_at(end, 8), "little")
        if items != storage.items or storage.size is None:
            return [_of_layout(f"storage {key} has {items} items where the pickle says {storage.items}")]
        end += 8 + storage.size
    if end != source.size:
        return [_of_layout(f"the file has {source.size} bytes where its pickle says {end}")]
    return []


def _of_layout(why: str) -> Refusal:
    return Refusal(opcode="", offset=0, name=None, why=why)
