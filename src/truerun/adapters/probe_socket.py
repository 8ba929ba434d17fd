"""The agent's end of the line: takes frames from any number of probes and answers them with secrets at once.

A thread of its own receives and answers, so that a slow check or a slow disk never makes a training step wait for its
nonce. It judges nothing: frames go to a queue in the order they came.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import selectors
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from truerun.adapters.pytorch.budget import FULL_STEPS
from truerun.adapters.pytorch.frames import Frame, parse_frames, render_frame
from truerun.core.errors import FormatError

MAX_QUEUED = 20_000
MAX_SHARED = 1024
NONCE_BYTES = 16
SETTLE_SECONDS = 30.0
STOP, SETTLE = b"x", b"s"


@dataclass(slots=True, eq=False)
class Line:
    """One probe's connection: `pid` as the kernel vouches for it; `nonces` maps (optimizer, its step) to the secret sent."""

    socket: socket.socket
    pid: int
    received: bytes = b""
    nonces: dict[tuple[int, int], bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a frame on a line, or the end of the line (`frame` None), or of the child (`line` None)."""

    line: Line | None
    frame: Frame | None
    returncode: int | None = None


class ProbeSocket:
    """Listens in a folder only this account can enter; `events` is where frames arrive; `cost` is told to the probes."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="truerun-")
        self.path = os.path.join(self._folder, "probe")
        self.events: queue.Queue[Event] = queue.Queue(MAX_QUEUED)
        self.cost: Callable[[], float] = lambda: 0.0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(256)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._settled = threading.Event()
        self._shared: dict[str, tuple[str, int]] = {}
        self.open_lines = 0
        self._thread = threading.Thread(target=self._serve, name="truerun-probe-socket", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.send(STOP)
        with contextlib.suppress(queue.Empty):  # the thread may be waiting for room
            while True:
                self.events.get_nowait()
        self._thread.join(timeout=5)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._wake.close()
        self._selector.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    if self._woken.recv(1) == STOP:
                        return
                    while self._accept():
                        pass
                    self._settled.set()
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._read(key.data)

    def settle(self) -> None:
        """
        Return once every connection made before this call has been accepted: what its process sent will arrive.

        A second call returns when what had arrived by then (a megabyte of each) is among the events.
        """
        self._settled.clear()
        self._wake.send(SETTLE)
        self._settled.wait(timeout=SETTLE_SECONDS)

    def _accept(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # nobody is waiting, or the caller is gone already
            return False
        pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            connection.close()
            return True
        connection.setblocking(False)
        self.open_lines += 1
        self._selector.register(connection, selectors.EVENT_READ, Line(connection, pid))
        return True

    def _read(self, line: Line) -> None:
        try:
            data = line.socket.recv(1 << 20)
            frames, line.received = parse_frames(line.received + data)
        except BlockingIOError:
            return
        except (OSError, FormatError):
            data, frames = b"", []
        for frame in frames:
            self._answer(line, frame)
            self.events.put(Event(line, frame))
        if not data:
            self._selector.unregister(line.socket)
            line.socket.close()
            self.events.put(Event(line, None))
            self.open_lines -= 1

    def _answer(self, line: Line, frame: Frame) -> None:
        kind, header = frame.header["kind"], frame.header
        optimizer, gap = header.get("optimizer"), header.get("gap", 1)
        step = header.get("own_step", header.get("step", 0))
        if not (type(optimizer) is int and type(step) is int and type(gap) is int):
            return
        if kind == "optimizer":
            self._give_nonce(line, optimizer, 1)
        elif kind == "ask":
            self._give_nonce(line, optimizer, step)
        elif kind == "ranks-ask":
            self._share(line, optimizer, str(header.get("key"))[:400], gap)
        elif kind == "sample":
            chosen = 1 if gap <= 1 or step < FULL_STEPS else 1 + secrets.randbelow(2 * gap - 1)
            if chosen == 1:
                self._give_nonce(line, optimizer, step + 1)
            if gap > 1:
                self._send(line, {"kind": "next", "optimizer": optimizer, "gap": chosen})
            self._send(line, {"kind": "cost", "optimizer": optimizer, "seconds": self.cost()})

    def _give_nonce(self, line: Line, optimizer: int, step: int) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        line.nonces[optimizer, step] = nonce
        self._send(line, {"kind": "nonce", "optimizer": optimizer, "step": step, "nonce": nonce.hex()})

    def _share(self, line: Line, optimizer: int, key: str, gap: int) -> None:
        """The secret that *key* stands for, the same for whoever asks; the first to ask says how often to look."""
        if key not in self._shared:
            if len(self._shared) >= MAX_SHARED:
                del self._shared[next(iter(self._shared))]
            self._shared[key] = secrets.token_hex(NONCE_BYTES), max(1, gap)
        secret, every = self._shared[key]
        self._send(line, {"kind": "ranks-secret", "optimizer": optimizer, "key": key, "secret": secret, "gap": every})

    def _send(self, line: Line, header: dict[str, Any]) -> None:
        # A probe that does not read its answers draws its own secrets; nothing here waits for it.
        with contextlib.suppress(OSError):
            line.socket.send(render_frame(header))
