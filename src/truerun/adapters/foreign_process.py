"""Waits for the end of a process that is nobody's child here, and says how it ended where the kernel tells (Linux 6.15 and newer).

Standard library only. A process that ends the ordinary way is never asked for anything; nothing is sent to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import time

POLL_SECONDS = 0.5
REAP_SECONDS = 1.0
# include/uapi/linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info), 64 bytes; the exit code is the twelfth of the 32-bit fields.
PIDFD_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
PIDFD_INFO_EXIT = 1 << 3
PIDFD_INFO = struct.Struct("<QQ11Ii")


def wait_for_end(pid: int) -> int | None:
    """
    Return once process *pid* is gone: what `subprocess` would call its return code (negative for a signal).

    None where the kernel does not say how it ended. Blocks; call it from a thread of its own.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        _wait_by_looking(pid)
        return None
    try:
        select.select([descriptor], [], [])
        until = time.monotonic() + REAP_SECONDS
        while (status := _exit_status(descriptor)) is None and time.monotonic() < until:
            time.sleep(0.02)  # the status is there once the parent has taken note of the end
        return None if status is None else os.waitstatus_to_exitcode(status)
    finally:
        os.close(descriptor)


def _exit_status(descriptor: int) -> int | None:
    buffer = bytearray(64)
    struct.pack_into("<Q", buffer, 0, PIDFD_INFO_EXIT)
    with contextlib.suppress(OSError, ValueError):
        fcntl.ioctl(descriptor, PIDFD_GET_INFO, buffer)
        mask, *_, status = PIDFD_INFO.unpack_from(buffer)
        return status if mask & PIDFD_INFO_EXIT else None
    return None


def _wait_by_looking(pid: int) -> None:
    """For kernels without pidfd: look twice a second."""
    with contextlib.suppress(OSError):
        while True:
            os.kill(pid, 0)
            time.sleep(POLL_SECONDS)
