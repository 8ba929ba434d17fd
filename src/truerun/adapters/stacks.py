"""Stacks of a Python process, sampled from outside with py-spy, which reads its memory and never stops it.

py-spy (https://github.com/benfred/py-spy) is a program of its own and optional. It needs the right to read the other
process's memory: the same account, and on systems with `ptrace_scope` 1 or more also the permission of the process or
root. Where it is missing or refused, there are no stacks, and `Unseen` says why.
"""

from __future__ import annotations

import json
import linecache
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from truerun.monitoring.place import Frame, Stacks

SLACK_SECONDS = 10.0
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
_THREAD = re.compile(r"thread \((0x[0-9a-fA-F]+|\d+)\)")
_FRAME = re.compile(r"(.*) \((.*):(\d+)\)")


class Unseen(Exception):
    """The stack could not be read; the text says why. `lasting` where trying again is no use."""

    def __init__(self, why: str, *, lasting: bool = False) -> None:
        super().__init__(why)
        self.lasting = lasting


def sampler() -> str | None:
    """The py-spy program: beside this Python, else on PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy")


def sample_stacks(pid: int, thread: int, *, seconds: int, rate: int) -> Stacks:
    """
    Count the stacks of one thread, outermost frame first, *rate* times a second for whole *seconds*.

    Takes that long and a little more. Raises Unseen.
    """
    with tempfile.TemporaryDirectory(prefix="truerun-stacks-") as folder:
        target = Path(folder) / "raw"
        _run(
            *("record", "--format", "raw", "--idle", "--nonblocking", "--threads", "--full-filenames"),
            *("--rate", str(rate), "--duration", str(seconds), "--output", str(target), "--pid", str(pid)),
            seconds=seconds,
        )
        if not target.is_file():
            raise Unseen("py-spy wrote nothing")
        with target.open("rb") as raw:
            return parse_stacks(raw.read(MAX_OUTPUT_BYTES).decode(errors="replace"), thread)


def sample_still(pid: int, thread: int, *, times: int) -> Stacks:
    """
    Look at the stack *times* times and count those that found the thread neither on a processor nor in the queue for one.

    Dearer than `sample_stacks`, which cannot tell. Raises Unseen.
    """
    found: Counter[tuple[Frame, ...]] = Counter()
    for _ in range(times):
        shown = json.loads(_run("dump", "--json", "--nonblocking", "--full-filenames", "--pid", str(pid), seconds=0))
        for known in shown:
            if known["os_thread_id"] == thread and not known["active"]:
                # Innermost first here.
                found[tuple(_frame(f"{at['name']} ({at['filename']}:{at['line']})") for at in reversed(known["frames"]))] += 1
    return found


def _run(*words: str, seconds: float) -> str:
    program = sampler()
    if program is None:
        raise Unseen("py-spy is not installed: pip install 'truerun[stacks]'", lasting=True)
    try:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + SLACK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unseen(f"py-spy did not answer: {error}"[:200]) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[0][:160] if said else "no answer"
        raise Unseen(f"py-spy: {why}", lasting="ermission" in done.stderr.decode(errors="replace"))
    return done.stdout[:MAX_OUTPUT_BYTES].decode(errors="replace")


def parse_stacks(raw: str, thread: int) -> Stacks:
    """Read py-spy's raw format (`thread (1): Main;outer (file:1);inner (file:2) 17`), the lines of one thread."""
    found: Counter[tuple[Frame, ...]] = Counter()
    for line in raw.splitlines():
        text, _, count = line.rpartition(" ")
        name, *frames = text.split(";")
        matched = _THREAD.match(name)
        if matched is None or int(matched[1], 0) != thread or not count.isdigit():
            continue
        found[tuple(_frame(frame) for frame in frames if _FRAME.fullmatch(frame))] += int(count)
    return found


def _frame(shown: str) -> Frame:
    matched = _FRAME.fullmatch(shown)
    assert matched is not None
    path, line = matched[2], int(matched[3])
    return Frame(path=path, line=line, name=matched[1], text=linecache.getline(path, line).strip()[:200])
