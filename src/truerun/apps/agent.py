"""The agent: runs a command with the probe inside it, checks outside of it what the probe hands over, keeps the records.

Knows nothing of locks, people or the ledger: `apps/running.py` does, and `trace`, `replay` and `recover` use the agent as
it is. It changes nothing about the command: its input, output, error and exit code are what they are without Truerun.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import truerun
from truerun.adapters import process
from truerun.adapters.probe_socket import Event, ProbeSocket
from truerun.adapters.pytorch.settings import PROBE, REPLAY_KEY, SOCKET, SOURCE, STOP_AFTER, Settings, render_settings
from truerun.apps.observing import Observer
from truerun.apps.run_files import RunFiles
from truerun.apps.watched_run import Batch, StepRecord, WatchOutcome, WatchRequest
from truerun.core.codec import to_json
from truerun.core.run import Overhead

__all__ = ["Batch", "StepRecord", "WatchOutcome", "WatchRequest", "find_program", "watch"]

STARTUP = Path(truerun.__file__).parent / "adapters" / "pytorch" / "startup"
PACKAGE_ROOT = Path(truerun.__file__).parent.parent
BATCH_SECONDS = 3.0
DRAIN_SECONDS = 3.0
TERMINATE_SECONDS = 5.0
TICK_SECONDS = 0.2
SETTLED_PASSES = 3


def watch(request: WatchRequest) -> WatchOutcome:
    """
    Run the command to its end and say what was seen.

    Raises CommandNotFoundError before anything has started. A signal sent to this process is passed on to the command.
    """
    env = _environment(request)
    executable = process.find_command(request.command, request.cwd, env)
    files = RunFiles(request.folder)
    observer = Observer(request, files)
    with ProbeSocket() as line, _output(request.output) as output:
        line.cost = observer.cost
        kills = process.out_of_memory_kills()
        begun = time.monotonic()
        child = process.start_command(
            executable,
            request.command,
            cwd=request.cwd,
            env={**env, SOCKET: line.path},
            output=output,
            outlives=request.outlives,
        )
        with process.forwarding(child, observer.forwarded):
            threading.Thread(target=_await, args=(child, line), name="truerun-await", daemon=True).start()
            timed_out = follow(request, observer, line, child.pid, begun, end=lambda number: process.send_signal(child, number))
        seconds = time.monotonic() - begun
        if kills is not None and (now := process.out_of_memory_kills()) is not None:
            observer.out_of_memory = now > kills
    observer.finish(child.returncode, timed_out=timed_out)
    files.close()
    return conclude(observer, files, child.returncode, seconds, timed_out=timed_out)


def find_program(command: tuple[str, ...], cwd: Path) -> str:
    """The program that *command* would start; raises CommandNotFoundError."""
    return process.find_command(command, cwd, os.environ)


def conclude(observer: Observer, files: RunFiles, returncode: int, seconds: float, *, timed_out: bool) -> WatchOutcome:
    """What the watching came to."""
    return WatchOutcome(
        exit_code=process.exit_code(returncode),
        seconds=seconds,
        steps=observer.steps,
        ranks=observer.ranks,
        metrics=dict(observer.metrics),
        points=tuple(observer.points),
        findings=observer.findings,
        effective=observer.effective,
        records=tuple(observer.records),
        overhead=Overhead(
            fraction=min(1.0, observer.spent / seconds) if seconds else 0.0,
            seconds=observer.spent,
            by=observer.spent_by,
            looks=observer.looks,
        ),
        sampling=observer.sampling,
        unseen=tuple(observer.unseen),
        stopped=observer.stopped,
        timed_out=timed_out,
        trouble=files.trouble,
    )


def _environment(request: WatchRequest) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in (SOCKET, SOURCE, PROBE, STOP_AFTER, REPLAY_KEY)}
    for name, value in request.env.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    path = env.get("PYTHONPATH")
    shown = {"PYTHONPATH": f"{STARTUP}{os.pathsep}{path}" if path else str(STARTUP), SOURCE: str(PACKAGE_ROOT)}
    return {**env, **shown, **probe_variables(request)}


def probe_variables(request: WatchRequest) -> dict[str, str]:
    """What tells a probe how to watch: environment variables, all but the one that names the socket."""
    settings = Settings(
        overhead=request.monitoring.overhead,
        every=request.monitoring.every,
        coordinates=request.monitoring.coordinates,
        duplicate_batches=request.monitoring.duplicate_batches,
        stop_after=request.stop_after,
        replay_key=request.replay_key,
        declared=to_json({name: value for name, value in request.reference.values.items() if name != "groups"}),
    )
    return render_settings(settings)


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[IO[bytes] | None]:
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as stream:
        yield stream


def _await(child: subprocess.Popen[bytes], line: ProbeSocket) -> None:
    returncode = child.wait()
    # However slow this machine is, what the command had sent comes before the word that it has ended.
    for _ in range(SETTLED_PASSES):
        line.settle()
    line.events.put(Event(None, None, returncode))


def follow(
    request: WatchRequest, observer: Observer, line: ProbeSocket, pid: int, begun: float, *, end: Callable[[int], None]
) -> bool:
    """Take events until process *pid* has ended and every line is closed; True when the time allowed ran out and *end* was told."""
    deadline = None if request.timeout_seconds is None else begun + request.timeout_seconds
    timed_out = False
    drained: float | None = None
    batched = begun
    while drained is None or not line.events.empty() or (line.open_lines and time.monotonic() < drained):
        now = time.monotonic()
        with contextlib.suppress(queue.Empty):
            event = line.events.get(timeout=TICK_SECONDS)
            if event.returncode is not None:
                drained = time.monotonic() + DRAIN_SECONDS
            else:
                observer.take(event)
        if drained is None:
            observer.tick(pid, now - begun)
        if deadline is not None and now > deadline and drained is None:
            end(9 if timed_out else 15)
            timed_out, deadline = True, now + TERMINATE_SECONDS
        if now - batched > BATCH_SECONDS or observer.urgent:
            batched = now
            observer.batch()
    observer.batch()
    return timed_out
