"""Commands as processes: find one, start it as a shell would, pass signals on, say how it ended. Linux; standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from truerun.core.errors import CommandNotFoundError

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
SIGNALLED = 128


def find_command(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> str:
    """Path of the program that `command[0]` names; raises CommandNotFoundError before anything has started."""
    if not command or not command[0]:
        raise CommandNotFoundError("no command to run", expected="truerun run -- python train.py")
    name = command[0]
    where = str(cwd / name) if os.sep in name else name
    found = shutil.which(where, path=env.get("PATH"))
    if found is None:
        exists = os.sep in name and os.path.exists(where)
        raise CommandNotFoundError(
            f"the command {name!r} is not executable" if exists else f"the command {name!r} does not exist",
            expected="a program on PATH or a path to an executable file",
            next_step=f"chmod +x {name}" if exists else "check the spelling and that the right environment is active",
        )
    return found


def start_command(
    executable: str,
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: IO[bytes] | None = None,
    outlives: bool = False,
) -> subprocess.Popen[bytes]:
    """
    Start *command* with standard input, output and error as they are here (or both outputs into *output*).

    It gets its own process group unless a terminal is its input: there it stays in the foreground group, so that it can
    read and Ctrl-C and Ctrl-Z reach it as they always did. Unless it *outlives* this process, it is asked to end with it.
    """
    try:
        return subprocess.Popen(
            list(command),
            executable=executable,
            cwd=cwd,
            env=dict(env),
            stdin=None if output is None else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            close_fds=False,  # as a shell would: descriptors the caller left open on purpose stay open
            process_group=None if output is None and _at_terminal() else 0,
            preexec_fn=None if outlives else _end_with_parent,  # noqa: PLW1509 (one system call, no Python lock is taken)
        )
    except OSError as error:
        raise CommandNotFoundError(
            f"the command {command[0]!r} cannot be started", got=error.strerror, next_step="check its first line and its rights"
        ) from error


_prctl = ctypes.CDLL(None, use_errno=True).prctl
PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """In the child: be asked to end (SIGTERM) when the process that started it is killed, so that nothing goes on unwatched."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _at_terminal() -> bool:
    try:
        return os.isatty(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return False


def send_signal(child: subprocess.Popen[bytes], number: int) -> None:
    """Send signal *number* to the child's process group, or to the child alone where it shares ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(child.pid) == child.pid:
            os.killpg(child.pid, number)
        else:
            child.send_signal(number)


@contextlib.contextmanager
def forwarding(child: subprocess.Popen[bytes], on_signal: Callable[[int], None]) -> Iterator[None]:
    """While active, signals sent to this process go on to the child; the terminal's Ctrl-C reaches both by itself."""

    def handle(number: int, frame: FrameType | None) -> None:
        on_signal(number)
        shared = os.getpgid(0) == _group_of(child.pid)
        if not (shared and number in (signal.SIGINT, signal.SIGQUIT)):
            send_signal(child, number)

    before = {}
    try:
        for number in FORWARDED:
            before[number] = signal.signal(number, handle)
    except ValueError:  # not the main thread: whoever runs us there handles signals
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def exit_code(returncode: int) -> int:
    """The exit code a shell reports: 128 + n for a process ended by signal n."""
    return SIGNALLED - returncode if returncode < 0 else returncode


def torch_processes(root: int, reporting: Collection[int] = ()) -> frozenset[int]:
    """
    Descendants of process *root* (and itself) that have torch's library in memory, as far as /proc tells us.

    Leaves out the processes in *reporting* and their forks, such as a data loader's workers: a fork carries the probe and
    reports when it has something to say. A process that was started anew has a command line of its own.
    """
    found = set()
    stack: list[tuple[int, bytes | None]] = [(root, None)]
    while stack:
        pid, carried = stack.pop()
        command = _read(f"/proc/{pid}/cmdline")
        probed = pid in reporting or (carried is not None and command == carried)
        if not probed and b"libtorch_cpu" in _read(f"/proc/{pid}/maps"):
            found.add(pid)
        stack += [(child, command if probed else None) for child in _children(pid)]
    return frozenset(found)


def carries(pid: int, variable: str) -> bool:
    """Whether *pid* is a Python that has *variable* in its environment and heeds it: no option makes it ignore PYTHONPATH."""
    words = _read(f"/proc/{pid}/cmdline").split(b"\0")
    options = itertools.takewhile(lambda word: word.startswith(b"-") and word not in (b"-c", b"-m"), words[1:])
    ignores = any(set(word[1:]) & set(b"IES") for word in options if not word.startswith((b"--", b"-X", b"-W")))
    python = os.path.basename(words[0]).startswith(b"python")
    return python and not ignores and any(item.startswith(variable.encode() + b"=") for item in _environment(pid))


def _environment(pid: int) -> list[bytes]:
    return _read(f"/proc/{pid}/environ").split(b"\0")


def is_alive(pid: int) -> bool:
    """Whether process *pid* runs, or waits, or is stopped: has not ended."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return bool(fields) and fields[0] not in (b"Z", b"X")


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            yield from map(int, _read(f"/proc/{pid}/task/{task}/children").split())


def _read(path: str) -> bytes:
    """What a file of /proc holds; nothing once its process is gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def cpu_seconds(pid: int) -> float | None:
    """Processor time that process *pid* has used so far, None once it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


def out_of_memory_kills() -> int | None:
    """How often the kernel has killed for lack of memory, in this control group or else on this host; None if it does not say."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with contextlib.suppress(OSError, ValueError), open(path) as events:
            for line in events:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return None
