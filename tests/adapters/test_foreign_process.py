"""How a process ended that is nobody's child here: told exactly where the kernel says it, never made up where it does not."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from truerun.adapters.foreign_process import wait_for_end


def ending(command: str) -> int | None:
    """What is seen of a shell that runs *command* while its parent waits for it."""
    told: list[int | None] = []
    with subprocess.Popen(["sh", "-c", f"read line; {command}"], stdin=subprocess.PIPE) as child:
        waiting = threading.Thread(target=lambda: told.append(wait_for_end(child.pid)))
        waiting.start()
        child.communicate(b"go\n")
        waiting.join(20)
    return told[0]


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
def test_end_is_told_as_it_was(command: str, code: int) -> None:
    """Somebody kills the process, or it fails: the watcher says which; a kernel before Linux 6.15 does not tell."""
    major, minor = (int(part) for part in os.uname().release.split(".")[:2])
    assert ending(command) in ((code,) if (major, minor) >= (6, 15) else (code, None))


def test_kernel_without_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is noticed all the same; how it came is not known, and not made up."""
    monkeypatch.setattr("truerun.adapters.foreign_process.POLL_SECONDS", 0.01)

    def refuse(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert ending("exit 7") is None
