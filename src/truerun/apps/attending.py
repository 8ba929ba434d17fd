"""Watches a process that is there already, and is no child of ours: what `truerun.watch` needs where `truerun run` starts a command.

The process connects by itself once it is told where (`ready`). It says when it lets go of the watch; when it dies
instead, the kernel says so. Judging, records and findings are those of `apps/agent.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from truerun.adapters import process
from truerun.adapters.foreign_process import wait_for_end
from truerun.adapters.probe_socket import Event, ProbeSocket
from truerun.adapters.pytorch.settings import SOCKET
from truerun.apps.agent import conclude, follow, probe_variables
from truerun.apps.observing import Observer
from truerun.apps.run_files import RunFiles
from truerun.apps.watched_run import WatchOutcome, WatchRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """
    A process that asks to be watched.

    `ready` is called with the variables its probe needs, once there is somebody to connect to. `let_go` blocks until the
    process says that it has ended its watch, and returns the exit code it names; None when it will never say so.
    """

    pid: int
    ready: Callable[[Mapping[str, str]], None]
    let_go: Callable[[], int | None]


def attend(request: WatchRequest, attached: Attached) -> WatchOutcome:
    """Watch until the process lets go or dies. `exit_code` is what it said, or how it died; 0 where nobody can tell."""
    files = RunFiles(request.folder)
    observer = Observer(request, files)
    endings: list[int | None] = []
    with ProbeSocket() as line:
        line.cost = observer.cost
        kills = process.out_of_memory_kills()
        begun = time.monotonic()

        def wait(ending: Callable[[], int | None], *, counts: bool) -> None:
            returncode = ending()
            if endings or (returncode is None and not counts):
                return
            endings.append(returncode)
            line.settle()
            line.events.put(Event(None, None, returncode or 0))

        threading.Thread(target=wait, args=(attached.let_go,), kwargs={"counts": False}, daemon=True).start()
        threading.Thread(target=wait, args=(lambda: wait_for_end(attached.pid),), kwargs={"counts": True}, daemon=True).start()
        attached.ready({**probe_variables(request), SOCKET: line.path})
        follow(request, observer, line, attached.pid, begun, end=lambda _: None)
        seconds = time.monotonic() - begun
        if kills is not None and (now := process.out_of_memory_kills()) is not None:
            observer.out_of_memory = now > kills
    returncode = endings[0] or 0
    observer.finish(returncode, timed_out=False)
    files.close()
    return conclude(observer, files, returncode, seconds, timed_out=False)
