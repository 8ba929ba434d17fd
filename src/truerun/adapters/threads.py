"""What a thread of another process is doing right now, as /proc tells it: a few reads, no rights needed beyond the owner's.

Linux. `asleep` needs the number of the system call (`/proc/PID/task/TID/syscall`), which hardened systems may withhold;
then the name of the kernel's function (`wchan`) serves, and where that is hidden too, a sleep is only `waiting`.
"""

from __future__ import annotations

import contextlib
import os
import platform
from enum import Enum

_NANOSLEEP = {"x86_64": (35, 230), "aarch64": (101, 115)}.get(platform.machine(), ())
_SLEEP_FUNCTIONS = (b"hrtimer_nanosleep", b"do_nanosleep", b"common_nsleep")


class Doing(Enum):
    """What a thread does: on or in the queue for a processor, in a sleep, waiting for something, stopped by a signal, ended."""

    RUNNING = "running"
    ASLEEP = "asleep"
    WAITING = "waiting"
    STOPPED = "stopped"
    GONE = "gone"


def look(pid: int, thread: int) -> Doing:
    """What thread *thread* of process *pid* does."""
    folder = f"/proc/{pid}/task/{thread}"
    state = _read(f"{folder}/stat").rpartition(b")")[2].split()[:1]
    if not state or state[0] in (b"Z", b"X"):
        return Doing.GONE
    if state[0] in (b"T", b"t"):
        return Doing.STOPPED
    if state[0] == b"R":
        return Doing.RUNNING
    return Doing.ASLEEP if _sleeps(folder) else Doing.WAITING


def _sleeps(folder: str) -> bool:
    call = _read(f"{folder}/syscall").split()[:1]
    if call and call[0].isdigit() and _NANOSLEEP:
        return int(call[0]) in _NANOSLEEP
    return _read(f"{folder}/wchan") in _SLEEP_FUNCTIONS


def waiting_for_processor() -> float | None:
    """
    Seconds so far in which something on this machine waited for a processor (pressure stall information).

    None where the kernel does not say.
    """
    for line in _read("/proc/pressure/cpu").splitlines():
        if line.startswith(b"some "):
            with contextlib.suppress(ValueError):
                return int(line.rpartition(b"=")[2]) * 1e-6
    return None


def _read(path: str) -> bytes:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, 1024)
    except OSError:
        return b""
    finally:
        os.close(file)
