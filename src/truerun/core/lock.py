"""A lock: what a declaration resolves to, by digest. The thing people approve and runs are admitted against.

A lock holds no time, host or author: the same inputs give the same lock everywhere. Who proposed it and when is in the
ledger entry that records it. `truerun.lock` is this value as indented JSON; its digest is over the canonical form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.core.codec import from_json, to_json
from truerun.core.digest import Digest, digest_value
from truerun.core.errors import FormatError

SCHEMA = 1
MAX_LOCK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file: `path` relative to the project, BLAKE3 of its bytes, size in bytes."""

    path: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedKey:
    """One configuration key: its value as JSON and the line (from 1) that sets it."""

    value: Any
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedConfig:
    """One configuration file, by key. `keys` are dotted paths of the leaves; formatting and comments do not show in them."""

    file: LockedFile
    keys: Mapping[str, LockedKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedData:
    """
    One declared data set.

    `rows` counts rows; `columns` maps a column to its type; `row_digests` is the digest of a stored object that lists
    every row's digest in order, so that rows can be compared between locks; `file_rows` counts the rows of each of
    `files`; `contributors` counts rows by who added
    them; `profile` is the digest of a stored object with the statistics that data rules compare against.
    """

    role: str
    files: tuple[LockedFile, ...]
    rows: int
    columns: Mapping[str, str]
    row_digests: Digest
    profile: Digest
    label: str | None = None
    contributor: str | None = None
    id: str | None = None
    contributors: Mapping[str, int] = field(default_factory=dict)
    file_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """One installed distribution: its version and the digest of its RECORD file (PEP 376), or None without one."""

    version: str
    record: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedEnvironment:
    """
    Interpreter and installed distributions. `variables` holds the values of environment variables that the code reads.

    `startup` maps the name of each file in the interpreter's folders that runs code at start-up and that no RECORD covers
    (`.pth` files that import, sitecustomize, usercustomize) to its digest: approving the lock approves them.
    """

    python: str
    packages: Mapping[str, LockedPackage] = field(default_factory=dict)
    variables: Mapping[str, str | None] = field(default_factory=dict)
    startup: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Everything a run of this declaration uses, by digest."""

    project: str
    command: str
    critical: bool
    declaration: LockedFile
    config: Mapping[str, LockedConfig] = field(default_factory=dict)
    data: Mapping[str, LockedData] = field(default_factory=dict)
    code: Mapping[str, LockedFile] = field(default_factory=dict)
    environment: LockedEnvironment
    checkpoints: Mapping[str, LockedFile] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical form: what an approval is about."""
        return digest_value(to_json(self))

    def config_value(self, key: str) -> Any:
        """The locked value of *key* in whichever configuration file sets it; raises KeyError."""
        for config in self.config.values():
            if key in config.keys:
                return config.keys[key].value
        raise KeyError(key)


def parse_lock(text: str) -> Lock:
    """Parse `truerun.lock`; raises FormatError. Law: parse_lock(render_lock(lock)) == lock."""
    if len(text) > MAX_LOCK_BYTES:
        raise FormatError("a lock file that is too large", got=f"{len(text)} bytes", expected=f"at most {MAX_LOCK_BYTES}")
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise FormatError("truerun.lock is not JSON", got=str(error)[:80], next_step="run truerun lock") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        got = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise FormatError("a lock of another schema", got=got, expected=SCHEMA, next_step="run truerun lock with this version")
    return from_json(Lock, data, "lock")


def render_lock(lock: Lock) -> str:
    """Render as indented JSON with sorted keys, so that git shows readable differences."""
    return json.dumps(to_json(lock), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
