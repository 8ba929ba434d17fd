"""A queue of processes for one file: `flock`, which the kernel grants in order of arrival, with a limit to the waiting."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from truerun.core.errors import StorageError

WAIT_SECONDS = 60.0


class FileQueue:
    """Turns on the lock file *path*, one at a time among all processes; the file itself stays and holds the last holder's id."""

    def __init__(self, path: Path, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._path = path
        self._wait_seconds = wait_seconds

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn and hold it for the block; raises StorageError when it does not come, or the file cannot be made."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StorageError(
                f"the ledger cannot be written: {error.strerror}: {self._path}",
                next_step="check the permissions of this file and its folder, and free space",
            ) from error
        try:
            self._take(descriptor)
        except BlockingIOError:
            self._wait(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise StorageError(
                f"the file system cannot lock files: {error.strerror}: {self._path}",
                next_step="keep the project on a local disk, or on a network file system with locks",
            ) from error
        try:
            with suppress(OSError):  # only helps people to find the holder; a full disk is reported by what is written next
                os.pwrite(descriptor, b"%-10d\n" % os.getpid(), 0)
            yield
        finally:
            os.close(descriptor)

    @staticmethod
    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _wait(self, descriptor: int) -> None:
        """Wait in the kernel's queue. It has no time limit of its own, so a thread waits, and may be left behind."""
        mutex, state = threading.Lock(), {"taken": False, "abandoned": False}

        def queue() -> None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with mutex:
                state["taken"] = True
                if state["abandoned"]:
                    os.close(descriptor)

        waiter = threading.Thread(target=queue, daemon=True)
        waiter.start()
        waiter.join(self._wait_seconds)
        with mutex:
            if state["taken"]:
                return
            state["abandoned"] = True
        holder = os.pread(descriptor, 10, 0).decode("ascii", "replace").strip() or "unknown"
        raise StorageError(
            f"another process has held the ledger for {self._wait_seconds:.0f} s",
            got=f"process {holder}",
            next_step=f"see what it does: ps -fp {holder}; nothing was recorded by this command",
        )
