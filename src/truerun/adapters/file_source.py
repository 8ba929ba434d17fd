"""A file as a source that is read in pieces (`inspection/weights/source.py`)."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from truerun.core.errors import InputError
from truerun.inspection.weights.source import check_range


@dataclass(frozen=True, slots=True)
class FileSource:
    """An open regular file of *size* bytes."""

    descriptor: int
    size: int

    def read_at(self, offset: int, count: int) -> bytes:
        """*count* bytes from *offset*; raises FormatError past the end, InputError when the file was cut short meanwhile."""
        check_range(self, offset, count)
        parts = []
        while count:
            part = os.pread(self.descriptor, count, offset)
            if not part:
                raise InputError("a checkpoint was cut short while it was read", next_step="run the command again")
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return b"".join(parts)


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[FileSource]:
    """The regular file at *path* as a source; raises InputError when it cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", next_step="check that it exists and who may read it") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is not a regular file", next_step="declare files, not folders, pipes or devices")
        yield FileSource(descriptor, found.st_size)
    finally:
        os.close(descriptor)
