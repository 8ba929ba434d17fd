"""The probe's end of the line to the agent: an AF_UNIX socket that never makes training wait.

What cannot be sent at once is kept up to a bound; beyond it frames are dropped and counted. Trouble with the socket ends
the watching quietly; the agent, which sees the line close, reports it. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from truerun.adapters.pytorch.frames import Frame, parse_frames, render_frame
from truerun.core.errors import FormatError

MAX_PENDING_BYTES = 8 * 1024 * 1024
CONNECT_SECONDS = 2.0


class Channel:
    """One connection of one process; a forked child opens its own when it first has something to say."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._pid = 0
        self._dead = False
        self._pending = bytearray()
        self._received = b""
        self._inbox: list[Frame] = []
        self._sending = threading.Lock()
        self.dropped = 0
        self.on_lost: Callable[[], None] = lambda: None

    def open(self, hello: Mapping[str, Any]) -> bool:
        """Connect if this process has not yet and say hello; False when there is nobody to talk to."""
        if self._pid == os.getpid():
            return not self._dead
        if self._socket is not None:  # the parent's connection, inherited by fork: close our copy of it only
            with contextlib.suppress(OSError):
                os.close(self._socket.detach())
        # A lock that another thread of the parent held at the fork would stay held here.
        self._pid, self._dead, self._sending = os.getpid(), False, threading.Lock()
        self._pending, self._received, self._inbox = bytearray(), b"", []
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(CONNECT_SECONDS)
            self._socket.connect(self._path)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self._socket.setblocking(False)
        except OSError:
            self._dead = True
            return False
        self.send(hello)
        return not self._dead

    def send(self, header: Mapping[str, Any], buffers: Mapping[str, tuple[str, bytes]] | None = None) -> None:
        """Hand a frame over without waiting."""
        if self._dead or self._socket is None or self._pid != os.getpid():
            return
        frame = render_frame(header, buffers)
        with self._sending:  # data loaders may be read in a thread of their own
            if len(self._pending) > MAX_PENDING_BYTES:
                self.dropped += 1
            else:
                self._pending += frame
            self._push()

    def agent(self) -> int:
        """The process that listens, as the kernel vouches for it; 0 when there is none."""
        if self._dead or self._socket is None:
            return 0
        return int(struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])

    def _push(self) -> None:
        assert self._socket is not None
        try:
            while self._pending:
                # Without a signal: a program may have SIGPIPE set to its default, which would end it when the agent is gone.
                del self._pending[: self._socket.send(self._pending, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            return
        except OSError:
            self._lose()

    def _lose(self) -> None:
        """Nobody listens any more: the agent was killed, or somebody closed the line."""
        self._dead = True
        self._pending = bytearray()
        self.on_lost()

    def flush(self, wait_seconds: float) -> None:
        """At the end of the process: give the agent up to *wait_seconds* to take what is left."""
        until = time.monotonic() + wait_seconds
        while self._pending and not self._dead and self._socket is not None and self._pid == os.getpid():
            left = until - time.monotonic()
            if left <= 0 or not _ready(self._socket, select.POLLOUT, left):
                return
            with self._sending:
                self._push()

    def close(self) -> None:
        """Hang up. What this process has to say afterwards goes nowhere."""
        if self._socket is not None and self._pid == os.getpid():
            self._dead = True
            self._socket.close()

    def receive(self, kind: str, optimizer: int, wait_seconds: float = 0.0) -> Frame | None:
        """The newest message of *kind* for *optimizer*, waiting at most *wait_seconds* for it."""
        until = time.monotonic() + wait_seconds
        while True:
            self._pull()
            found = [
                frame for frame in self._inbox if frame.header["kind"] == kind and frame.header.get("optimizer") == optimizer
            ]
            if found:
                self._inbox = [frame for frame in self._inbox if frame not in found]
                return found[-1]
            left = until - time.monotonic()
            if left <= 0 or self._dead or self._socket is None or not _ready(self._socket, select.POLLIN, left):
                return None

    def _pull(self) -> None:
        if self._dead or self._socket is None or self._pid != os.getpid():
            return
        try:
            while data := self._socket.recv(65536):
                self._received += data
                if len(data) < 65536:
                    break
            else:
                self._lose()
            frames, self._received = parse_frames(self._received)
            self._inbox += frames
        except BlockingIOError:
            return
        except (OSError, FormatError):
            self._lose()


def _ready(line: socket.socket, event: int, wait_seconds: float) -> bool:
    """Whether *line* can be read or written; `select` would refuse the descriptors of a program that has many files open."""
    poll = select.poll()
    poll.register(line, event)
    return bool(poll.poll(wait_seconds * 1000))
