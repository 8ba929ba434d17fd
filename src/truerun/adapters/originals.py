"""Copies of installed modules as they were when they agreed with RECORD, so that an edit can be named by its line.

A help, never evidence: kept in the person's cache, read back only when the copy still has the hash that RECORD gives, and
silently absent when there was no earlier inspection, no space or a damaged file. Only what is small or what trains is
kept: distributions whose modules come to 512 KiB, and torch's optimizers, layers and data loading.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from truerun.adapters.statcache import cache_path

MAX_DISTRIBUTION_BYTES = 512 * 1024
MAX_FILE_BYTES = 4 * 1024 * 1024
TRAINING = ("torch/optim", "torch/nn", "torch/utils/data", "torch/autograd", "torch/amp")


class Hashed(NamedTuple):
    """One file that RECORD lists with a hash: absolute path, algorithm, and the hash as RECORD writes it."""

    path: str
    algorithm: str
    encoded: str


def keep_originals(record: str, files: Sequence[Hashed]) -> None:
    """Keep copies of *files*, which agree with the RECORD whose digest is *record*; nothing happens when it cannot be done."""
    target = _archive(record)
    if target.exists():
        return
    partial = target.with_name(f".{secrets.token_hex(6)}.partial")
    with contextlib.suppress(OSError, ValueError):
        chosen = _chosen(files)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in chosen:
                archive.writestr(_name(file), Path(file.path).read_bytes())
        partial.replace(target)
    with contextlib.suppress(OSError):
        partial.unlink()


def read_original(record: str, file: Hashed) -> bytes | None:
    """The kept copy of *file*, or None when there is none that has its recorded hash."""
    try:
        with zipfile.ZipFile(_archive(record)) as archive:
            info = archive.getinfo(_name(file))
            data = archive.read(info) if info.file_size <= MAX_FILE_BYTES else b""
    except (OSError, KeyError, zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError):
        # Absent or damaged: the finding then names the file without a line.
        return None
    found = base64.urlsafe_b64encode(hashlib.new(file.algorithm, data).digest()).rstrip(b"=").decode()
    return data if found == file.encoded.rstrip("=") else None


def _chosen(files: Sequence[Hashed]) -> list[Hashed]:
    modules = [file for file in files if file.path.endswith(".py")]
    if sum(os.path.getsize(file.path) for file in modules) <= MAX_DISTRIBUTION_BYTES:
        return modules
    return [file for file in modules if any(f"/{part}/" in file.path for part in TRAINING)]


def _archive(record: str) -> Path:
    return cache_path() / "originals" / f"{record[:32]}.zip"


def _name(file: Hashed) -> str:
    return hashlib.sha256(file.path.encode("utf-8", "surrogateescape")).hexdigest()[:32]
