"""Where the time of a step goes: waiting for data, forward, backward, optimizer, other. A few clock readings a step.

For each phase the wall time and how much of it the stepping thread waited: was neither on a processor nor in the queue for
one. That is a sleep, a lock, a disk, a device; that the machine is busy is in the queue, which is told for the whole step.
`forward` is everything from the batch to `backward`; `other` what is neither of the named. Sees nothing of other threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from truerun.adapters.pytorch.sense import Sense

DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER = range(5)
PHASES = 5
JUMP_SECONDS = 2.0
MAX_FILES = 16
PR_SET_PTRACER = 0x59616D61
NO_MEMORY = "can't allocate memory"
ENDED_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal|exited unexpectedly)")
KILLED_BY = re.compile(r"is killed by signal: (\w+)")
WORTH_ASKING_NS, WORTH_LOOKING_NS = 50_000, 500_000
CLOSE_STEPS = 50
_wall, _used = time.perf_counter_ns, time.thread_time_ns


class TimingSense(Sense):
    """
    Sends `{"w": [5], "i": [5], "c": n, "q": n}` in microseconds with each step: wall time and waiting by phase, time on a
    processor, time in the queue for one. The probe's own time, a hundredth or two, is in it.
    """

    name = "time"

    def install(self) -> None:
        """Wrap the data loader's iterator."""
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        self._pid = self._thread = 0
        self._scheduling = -1
        self._files: dict[tuple[int, int], int] = {}
        self._queued = self._began_queued = self._waited = 0
        self._began_on = self._began_at = self._closely = 0
        self._walls, self._idles = [0] * PHASES, [0] * PHASES
        self._phase, self._at, self._on = OTHER, 0, 0
        self._clock = time.time() - time.monotonic()
        self._let_agent_read()
        self.probe.replace(_BaseDataLoaderIter, "__next__", self._timed_next)

    def _let_agent_read(self) -> None:
        """Where the kernel lets ancestors alone read a process (Yama's ptrace_scope 1): let the agent's py-spy sample the stack."""
        agent = getattr(self.probe.channel, "agent", None)
        with contextlib.suppress(OSError), open("/proc/sys/kernel/yama/ptrace_scope") as scope:
            if agent is not None and scope.read().strip() == "1" and (pid := agent()):
                ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(pid), 0, 0, 0)

    def _timed_next(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`__next__` with a clock reading on both sides; a worker that somebody killed is told apart from an exception."""

        @functools.wraps(original)
        def wrapper(loader: Any) -> Any:
            if self.off or self.probe.off or threading.get_ident() != self._thread:
                return original(loader)
            self._turn(DATA)
            try:
                return original(loader)
            except RuntimeError as error:
                self.tell(self._worker_ended, (error,), {})
                raise
            finally:
                self._turn(FORWARD)

        return wrapper

    def _worker_ended(self, error: RuntimeError) -> None:
        # The loader says which workers are gone; what it was told by their signal, if that came first, is the cause.
        said = " ".join(f"{told}" for told in (error, error.__cause__) if told is not None)
        found, signal = ENDED_WORKER.search(said), KILLED_BY.search(said)
        if found is not None:
            header = {"kind": "worker-ended", "workers": found[1].strip(), "signal": signal[1] if signal else None}
            self.probe.channel.send(header)

    def _turn(self, phase: int) -> None:
        """What ran until now was the phase before; from here on it is *phase*."""
        wall = _wall()
        took = wall - self._at
        self._walls[self._phase] += took
        if self._closely:
            used = _used()
            idle = took - (used - self._on)
            if idle > WORTH_ASKING_NS:
                queued = self._read_queue()
                self._idles[self._phase] += max(0, idle - (queued - self._queued))
                self._queued = queued
            self._on = used
        self._phase, self._at = phase, wall

    def _close_step(self) -> tuple[int, int]:
        """
        What the step that ends now used of a processor, and its time in the queue for one, in nanoseconds.

        A thread's own clock is a system call, at which a busy kernel may turn to somebody else: it is read at every change
        of phase only while steps wait, and once a step otherwise. Then what a step waited goes to its longest phase.
        """
        used = _used() if not self._closely else self._on
        computed, queued = used - self._began_on, self._read_queue()
        in_queue = queued - self._began_queued
        waited = max(0, self._at - self._began_at - computed - in_queue - self._own_wait())
        if not self._closely and waited > WORTH_ASKING_NS:
            self._idles[self._walls.index(max(self._walls))] = waited
        self._closely = CLOSE_STEPS if waited > WORTH_LOOKING_NS else max(0, self._closely - 1)
        self._on = self._began_on = used
        self._queued = self._began_queued = queued
        self._began_at = self._at
        return computed, in_queue

    def _own_wait(self) -> int:
        """Nanoseconds that the probe itself waited for its secret in this step."""
        return int(self.probe.waited_seconds * 1e9) - self._waited

    def _is_here(self) -> bool:
        return threading.get_ident() == self._thread and os.getpid() == self._pid

    def before_backward(self, tensors: Any) -> None:
        """The forward pass is over."""
        if threading.get_ident() == self._thread:
            self._turn(BACKWARD)

    def after_backward(self, tensors: Any) -> None:
        """So is the backward pass."""
        if threading.get_ident() == self._thread:
            self._turn(OTHER)

    def before_step(self, watched: Any, optimizer: Any) -> None:
        """The optimizer begins. What the probe itself waited for its secret does not count."""
        if not self._is_here():
            return
        self._turn(OPTIMIZER)
        waited = self._own_wait()
        self._walls[OTHER] = max(0, self._walls[OTHER] - waited)
        self._idles[OTHER] = max(0, self._idles[OTHER] - waited)

    def after_step(self, watched: Any, optimizer: Any) -> None:
        """The step is over: its times go into its row."""
        if not self._is_here():
            self._begin()
            return
        self._turn(FORWARD)
        computed, queued = self._close_step()
        self.extra["w"] = [value // 1000 for value in self._walls]
        self.extra["i"] = [value // 1000 for value in self._idles]
        self.extra["c"] = computed // 1000
        self.extra["q"] = queued // 1000 if self._scheduling >= 0 else None
        self._walls, self._idles = [0] * PHASES, [0] * PHASES
        self._waited = int(self.probe.waited_seconds * 1e9)
        clock = time.time() - time.monotonic()
        if abs(clock - self._clock) > JUMP_SECONDS:
            self.probe.channel.send({"kind": "clock", "jump": clock - self._clock, "step": self.probe.steps})
        self._clock = clock

    def _begin(self) -> None:
        """The first step of this process, or of another thread: count from here on."""
        self._pid, self._thread = os.getpid(), threading.get_ident()
        here = (self._pid, self._thread)
        # Held open, because reading again costs a microsecond; never closed, because the number may be the program's by then.
        if here not in self._files and len(self._files) < MAX_FILES:
            with contextlib.suppress(OSError):
                self._files[here] = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self._scheduling = self._files.get(here, -1)
        self._walls, self._idles = [0] * PHASES, [0] * PHASES
        self._queued = self._began_queued = self._read_queue()
        self._waited = int(self.probe.waited_seconds * 1e9)
        self._phase, self._at, self._on = FORWARD, _wall(), _used()
        self._began_on, self._began_at, self._closely = self._on, self._at, CLOSE_STEPS
        self.extra["tid"] = threading.get_native_id()

    def _read_queue(self) -> int:
        """Nanoseconds that this thread has waited for a processor so far; stays the same where the system does not say."""
        if self._scheduling < 0:
            return self._queued
        try:
            return int(os.pread(self._scheduling, 80, 0).split()[1])
        except (OSError, ValueError, IndexError):
            self._scheduling = -1
            return self._queued

    def goodbye(self) -> None:
        """Say which exception ended the program, if one did: Python keeps it, nothing is hooked."""
        error = getattr(sys, "last_value", None)
        if isinstance(error, BaseException):
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
            memory = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or NO_MEMORY in str(error)
            shown = f"{type(error).__name__}: {error}"[:300]
            self.probe.channel.send({"kind": "exception", "what": shown, "where": where, "memory": memory})
