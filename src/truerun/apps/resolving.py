"""Resolving a declaration to a lock: what the project's inputs are now, by digest. Only reads; keeps nothing.

What has not changed is not read again: files by the stat cache, data sets by the digests of their files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truerun.adapters import packages
from truerun.adapters.config_files import MAX_CONFIG_BYTES, parse_config
from truerun.adapters.files import TABLE_SUFFIXES, blake3_of, find_files, hash_file, leaves, read_bounded
from truerun.adapters.startup import unrecorded_startup
from truerun.apps.project import Project
from truerun.core.codec import from_json, to_json
from truerun.core.declaration import DataSection
from truerun.core.digest import Digest, digest_value
from truerun.core.errors import InputError, UsageError
from truerun.core.lock import Lock, LockedConfig, LockedData, LockedEnvironment, LockedFile
from truerun.core.rows import SUMMARY

KEEP_DATA_BYTES = 2 * 1024**3
KEEP_CHECKPOINT_BYTES = 64 * 1024**2
MAX_CODE_BYTES = 8 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """
    A lock of the project as it lies there now.

    `blobs` and `files` are what to store with it, by digest; `notes` say in plain words what the reader should know:
    links that were resolved, files too large to keep.
    """

    lock: Lock
    blobs: Mapping[Digest, bytes]
    files: Mapping[Digest, Path]
    notes: tuple[str, ...] = ()

    def fetch(self, digest: Digest) -> bytes | None:
        """The bytes of *digest* where this resolution holds them; None otherwise."""
        if digest in self.blobs:
            return self.blobs[digest]
        path = self.files.get(digest)
        return read_bounded(path, MAX_CODE_BYTES) if path is not None and path.stat().st_size <= MAX_CODE_BYTES else None


def resolve(project: Project, environ: Mapping[str, str] | None = None) -> Resolved:
    """
    What the declaration of *project* resolves to now, with the environment variables *environ* (default: ours).

    Raises InputError when something declared is missing or unreadable, FormatError with file:line for a malformed
    configuration, MissingExtraError when data sets are declared and the `data` extra is not installed.
    """
    return _Resolver(project, os.environ if environ is None else environ).resolve()


class _Resolver:
    """One resolution: gathers locked parts, and what to store, as it goes."""

    def __init__(self, project: Project, environ: Mapping[str, str]) -> None:
        self._project = project
        self._environ = environ
        self._root = project.root
        self._declaration = project.declaration
        self._blobs: dict[Digest, bytes] = {}
        self._files: dict[Digest, Path] = {}
        self._notes: list[str] = []
        self._keep = _keep_bytes()

    def resolve(self) -> Resolved:
        declaration = self._declaration
        code = self._code()
        lock = Lock(
            project=declaration.project.name,
            command=declaration.project.command,
            critical=declaration.project.critical,
            declaration=self._small(self._project.declaration_name, self._project.declaration_bytes),
            config=self._config(),
            data={name: self._data(name, section) for name, section in declaration.data.items()},
            code=code,
            environment=self._environment(code),
            checkpoints=self._checkpoints(),
        )
        self._project.cache.flush()
        return Resolved(lock=lock, blobs=self._blobs, files=self._files, notes=tuple(dict.fromkeys(self._notes)))

    def _small(self, path: str, data: bytes) -> LockedFile:
        digest = blake3_of(data)
        self._blobs[digest] = data
        return LockedFile(path=path, digest=digest, size=len(data))

    def _find(self, patterns: Sequence[str], what: str) -> list[str]:
        found, notes = find_files(self._root, patterns)
        self._notes.extend(notes)
        for pattern in patterns:
            if not any(mark in pattern for mark in "*?") and pattern.removeprefix("./") not in found:
                raise InputError(
                    f"{pattern} is declared under {what} and is not there", next_step="restore it, or correct truerun.toml"
                )
        return found

    def _config(self) -> dict[str, LockedConfig]:
        configs = {}
        for path in self._find(self._declaration.config.files, "[config] files"):
            data = read_bounded(self._root / path, MAX_CONFIG_BYTES)
            configs[path] = LockedConfig(file=self._small(path, data), keys=parse_config(data, path))
        return configs

    def _code(self) -> dict[str, LockedFile]:
        return {path: self._file(path, MAX_CODE_BYTES) for path in self._find(self._declaration.code.files, "[code] files")}

    def _file(self, path: str, keep: int) -> LockedFile:
        full = self._root / path
        digest = hash_file(full, self._project.cache)
        size = full.stat().st_size
        if size <= keep:
            self._files[digest] = full
        else:
            self._notes.append(f"{path} ({size} bytes) is above the keep limit of {keep}: locked, but it cannot be restored")
        return LockedFile(path=path, digest=digest, size=size)

    def _declared(self, spec: str, what: str, suffixes: Sequence[str] = ()) -> list[str]:
        """The files of a declared file, folder or glob; unlike code, data and weights may lie outside the project."""
        parts = spec.rstrip("/").split("/")
        cut = next((position for position, part in enumerate(parts) if "*" in part or "?" in part), len(parts))
        fixed, pattern = "/".join(parts[:cut]) or ("/" if spec.startswith("/") and cut else ""), "/".join(parts[cut:]) or "**"
        base = self._root / fixed
        if leaves(self._root, base):
            self._notes.append(f"{what}: {spec} lies outside the project, at {base.resolve()}; its bytes are locked")
        if base.is_file() and cut == len(parts):
            return [fixed]
        found, notes = find_files(base, [pattern]) if base.is_dir() else ([], [])
        self._notes.extend(notes)
        found = [name for name in found if not suffixes or Path(name).suffix.lower() in suffixes]
        if not found:
            raise InputError(f"{what}: nothing at {spec}", next_step="check the path in truerun.toml, and that it is mounted")
        return [f"{fixed.rstrip('/')}/{name}" if fixed else name for name in found]

    def _checkpoints(self) -> dict[str, LockedFile]:
        paths = [path for spec in self._declaration.checkpoints.input for path in self._declared(spec, "[checkpoints] input")]
        return {path: self._file(path, KEEP_CHECKPOINT_BYTES) for path in sorted(set(paths))}

    def _data(self, name: str, section: DataSection) -> LockedData:
        what = f"[data.{name}]"
        paths = self._declared(section.path, what, TABLE_SUFFIXES)
        files = tuple(self._file(path, self._keep) for path in paths)
        columns = {"label": section.label, "contributor": section.contributor, "id": section.id}
        key = "table:" + digest_value([SUMMARY, [to_json(file) for file in files], columns]).value
        summary = self._recall(key)
        if summary is None:
            # Polars takes a fifth of a second to import: not for data that has not changed.
            from truerun.adapters import tables

            table = tables.summarize([self._root / file.path for file in files], name=name, **columns)
            self._blobs[blake3_of(table.row_list)] = table.row_list
            self._blobs[blake3_of(table.profile)] = table.profile
            summary = {
                "rows": table.rows,
                "file_rows": list(table.file_rows),
                "columns": table.columns,
                "contributors": table.contributors,
                "row_digests": blake3_of(table.row_list).render(),
                "profile": blake3_of(table.profile).render(),
            }
            self._require_unchanged(files)
            self._project.cache.remember(key, json.dumps(summary))
        return from_json(LockedData, {"role": section.role, "files": to_json(files), **columns, **summary}, what)

    def _recall(self, key: str) -> Any:
        """What this data set came to when its files were the same, if the objects that it names are still stored."""
        text = self._project.cache.recall(key)
        summary = json.loads(text) if text else None
        wanted = [summary["row_digests"], summary["profile"]] if summary else []
        return summary if all(Digest.parse(name) in self._project.objects for name in wanted) else None

    def _require_unchanged(self, files: Sequence[LockedFile]) -> None:
        for file in files:
            if hash_file(self._root / file.path, self._project.cache) != file.digest:
                raise InputError(
                    f"{file.path} changed while it was read", next_step="run the command again when nothing writes to it"
                )

    def _environment(self, code: Mapping[str, LockedFile]) -> LockedEnvironment:
        section = self._declaration.environment
        interpreter = packages.find_interpreter(self._declaration.project.command, self._root, self._environ)
        installed = packages.locked_packages(interpreter, section.packages, self._project.cache)
        if not interpreter.site_packages and section.packages != "none":
            self._notes.append(f"no folder of installed packages was found for {interpreter.path}: none are locked")
        names = {*section.variables, *self._variables_read(code)}
        return LockedEnvironment(
            python=interpreter.version,
            packages=installed,
            variables={name: packages.recorded_value(name, self._environ.get(name)) for name in sorted(names)},
            startup=unrecorded_startup(interpreter),
        )

    def _variables_read(self, code: Mapping[str, LockedFile]) -> set[str]:
        names: set[str] = set()
        for path, file in code.items():
            if not path.endswith(".py"):
                continue
            key = f"variables-{packages.SCAN_VERSION}:{file.digest.value}"
            known = self._project.cache.recall(key)
            if known is None:
                known = json.dumps(sorted(packages.variables_read(read_bounded(self._root / path, MAX_CODE_BYTES))))
                self._project.cache.remember(key, known)
            names.update(json.loads(known))
        return names


def _keep_bytes() -> int:
    text = os.environ.get("TRUERUN_KEEP_BYTES")
    if text is None:
        return KEEP_DATA_BYTES
    if not text.isdigit():
        raise UsageError("TRUERUN_KEEP_BYTES is not a number of bytes", got=text[:40], expected="digits, such as 2147483648")
    return int(text)
