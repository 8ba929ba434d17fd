"""The object store: blobs by the digest of their bytes, so that every locked state can be rebuilt.

Files and lists are named by BLAKE3 (`ab/cdef…`), locks by the SHA-256 of their canonical JSON (`sha256/ab/cdef…`).

Files are copied, never linked: originals are edited in place, and a link would change with them. What is read back is
verified against its name. Objects are never deleted here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from truerun.core.digest import Digest, digest_bytes
from truerun.core.errors import InputError, StorageError, VerificationError

_CHUNK = 1 << 20
MAX_READ_BYTES = 4 << 30


def blake3_of(data: bytes) -> Digest:
    """BLAKE3 of *data*."""
    return Digest("blake3", blake3(data).hexdigest())


_ALGORITHMS: dict[str, Callable[[bytes], Digest]] = {"blake3": blake3_of, "sha256": digest_bytes}


class ObjectStore:
    """
    Blobs under *root*, each written whole or not at all and flushed to disk before its name appears.

    Concurrent writers of the same bytes are harmless: both write the same object.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __contains__(self, digest: Digest) -> bool:
        return digest.algorithm in _ALGORITHMS and self.path(digest).is_file()

    def path(self, digest: Digest) -> Path:
        """Where *digest* is or would be; raises InputError for an algorithm that names no objects."""
        if digest.algorithm not in _ALGORITHMS:
            raise InputError("no object has such a name", got=digest.algorithm, expected=" or ".join(_ALGORITHMS))
        return self.root / ("" if digest.algorithm == "blake3" else digest.algorithm) / digest.value[:2] / digest.value[2:]

    def put_bytes(self, data: bytes, algorithm: str = "blake3") -> Digest:
        """Store *data*; raises StorageError when it cannot be written."""
        digest = _ALGORITHMS[algorithm](data)
        if digest not in self:
            write_whole(self.path(digest), functools.partial(_write_bytes, data))
        return digest

    def put_file(self, path: Path, digest: Digest | None = None) -> Digest:
        """
        Store a copy of the file at *path*; give its *digest* when it is known, so that a stored one costs nothing.

        Raises InputError when the file cannot be read or changes meanwhile, StorageError when the copy cannot be written.
        """
        from truerun.adapters.files import hash_file

        digest = digest or hash_file(path)
        if digest not in self:
            write_whole(self.path(digest), functools.partial(_copy, path, digest))
        return digest

    def put_all(self, blobs: Iterable[tuple[Digest, bytes]], files: Iterable[tuple[Digest, Path]]) -> None:
        """
        Store *blobs* and copies of *files* under their known digests; what is stored already costs nothing.

        All are written before the first is flushed: one flush of the file system then serves nearly all of them.
        Raises as put_bytes and put_file do; what was named by then is complete.
        """
        fills: dict[Digest, Callable[[BinaryIO], object]] = {}
        for digest, data in blobs:
            fills[digest] = functools.partial(_write_bytes, data)
        for digest, path in files:
            fills[digest] = functools.partial(_copy, path, digest)
        write_all({self.path(digest): fill for digest, fill in fills.items() if digest not in self})

    def read(self, digest: Digest) -> bytes:
        """The bytes of *digest*; raises InputError when absent, VerificationError when they are not those bytes any more."""
        path = self.path(digest)
        try:
            if path.stat().st_size > MAX_READ_BYTES:
                raise InputError(
                    f"object {digest.short} is too large to read at once", expected=f"at most {MAX_READ_BYTES} bytes"
                )
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"object {digest.short} is not in {self.root}",
                got=error.strerror,
                next_step="it was above the keep limit, or .truerun/objects was cleaned; restore it from a backup",
            ) from error
        if _ALGORITHMS[digest.algorithm](data) != digest:
            raise VerificationError(
                f"object {digest.short} does not hold the bytes it is named after", next_step=f"restore {path} from a backup"
            )
        return data


def write_whole(path: Path, fill: Callable[[BinaryIO], object], *, mode: int = 0o644) -> None:
    """Write a file so that it appears complete and durable, or not at all; raises StorageError."""
    write_all({path: fill}, mode=mode)


def write_all(fills: Mapping[Path, Callable[[BinaryIO], object]], *, mode: int = 0o644) -> None:
    """Write several files, each so that it appears complete and durable, or not at all; raises StorageError."""
    partials: dict[Path, Path] = {}
    path = Path()
    try:
        try:
            for path, fill in fills.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                partials[path] = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.partial")
                descriptor = os.open(partials[path], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
                with os.fdopen(descriptor, "wb") as stream:
                    fill(stream)
            for path, partial in partials.items():  # noqa: B007 (the error below names it)
                _sync(partial, os.O_RDONLY)
            for path, partial in partials.items():
                partial.replace(path)
        except BaseException:
            for partial in partials.values():
                with contextlib.suppress(OSError):
                    partial.unlink()
            raise
        for folder in {path.parent for path in fills}:
            _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}",
            next_step="free space or choose a writable folder, then run the command again; nothing recorded is lost",
        ) from error


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_bytes(data: bytes, target: BinaryIO) -> None:
    target.write(data)


def _copy(path: Path, digest: Digest, target: BinaryIO) -> None:
    hasher = blake3()
    try:
        source = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    with source:
        while chunk := source.read(_CHUNK):
            hasher.update(chunk)
            target.write(chunk)
    if hasher.hexdigest() != digest.value:
        raise InputError(f"{path} changed while it was being stored", next_step="run the command again when nothing writes to it")
