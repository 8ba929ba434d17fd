"""`truerun.watch`: watching from inside a notebook or a script that `truerun run` did not start.

Starts the agent as a process of its own, which judges and records, and installs the same probe that `truerun run` brings.
The agent is no child of the training process: nothing that waits for children meets it, and it outlives a process that
is killed. It speaks through a socket and a pipe, JSON a line (`apps/attached_process.py`); nobody waits for it while training runs.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from truerun.adapters.pytorch.settings import PROBE, REPLAY_KEY, SOCKET, SOURCE, STOP_AFTER
from truerun.core.codec import from_json
from truerun.core.errors import FormatError, MissingExtraError, TruerunError, UsageError
from truerun.core.finding import Finding

START_SECONDS = 600.0
VERDICT_SECONDS = 20.0
INTERRUPTED = 130
PACKAGE_ROOT = Path(__file__).parent.parent.parent
_CODE = "import sys; sys.path.append(sys.argv[1]); from truerun.apps.attached_process import main; main()"
# The shell ends at once, so that the agent is an orphan from its first moment; `&` alone would take its input away.
_DETACH = 'exec 3<&0; "$@" <&3 3<&- &'
_open: Watch | None = None


class Watch:
    """
    A watch over this process; also a context manager, whose end is `close()`.

    `run` is the run's id, None under `truerun run`, which keeps the watch itself: then this has nothing to do.
    """

    def __init__(self, agent: Agent | None) -> None:
        self._agent = agent
        self._pid = os.getpid()
        self._variables: dict[str, str] = {}
        self._error_before = getattr(sys, "last_value", None)
        self.run = agent.run if agent is not None else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far; complete once closed. Empty under `truerun run`, which reports by itself."""
        if self._agent is None:
            return ()
        if os.getpid() == self._pid:
            self._agent.read(0.0)
        return tuple(self._agent.findings)

    @property
    def verdict(self) -> str | None:
        """`pass`, `fail` or `could-not-tell` once the watch is closed; None before, and where the agent did not come to one."""
        return None if self._agent is None or self._agent.result is None else str(self._agent.result["verdict"])

    def close(self, exit_code: int = 0) -> None:
        """End the watch, leave torch as it was found and wait a moment for the verdict. A second call does nothing."""
        global _open  # noqa: PLW0603 (one process, one watch)
        agent = self._agent
        if agent is None or agent.over or os.getpid() != self._pid:  # a fork's copy has nothing to close
            return
        if _open is self:
            _open = None
        atexit.unregister(self._close_at_exit)
        from truerun.adapters.pytorch import probe

        with contextlib.suppress(Exception):  # what watched must not break what comes after the training
            probe.stop()
        for name in self._variables:
            os.environ.pop(name, None)
        agent.finish(exit_code)

    def _begin(self, variables: dict[str, str]) -> None:
        from truerun.adapters.pytorch import probe

        self._variables = variables
        os.environ.update(variables)
        with contextlib.suppress(Exception):  # a torch that is not as expected: the agent says that nobody reported
            probe.start()
        # Registered after the probe's own goodbye, so that it runs before.
        atexit.register(self._close_at_exit)

    def _close_at_exit(self) -> None:
        error = getattr(sys, "last_value", None)
        self.close(0 if error is self._error_before else _exit_code(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(_exit_code(error))

    def __repr__(self) -> str:
        if self._agent is None:
            return "<truerun.Watch: truerun run watches>"
        state = f"{self.verdict}" if self._agent.over else "open"
        return f"<truerun.Watch {self.run}: {state}, {len(self.findings)} findings>"


class Agent:
    """The training process's end of the two pipes."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.findings: list[Finding] = []
        self.result: dict[str, Any] | None = None
        self.refused: dict[str, Any] | None = None
        self.ready: dict[str, Any] | None = None
        self.over = False
        self._rest = b""
        # A socket, not a pipe: writing to it after the agent's end raises no SIGPIPE, which a program may have set to kill it.
        theirs_in, self._out = socket.socketpair()
        self._in, theirs_out = os.pipe()
        hidden = (SOCKET, SOURCE, PROBE, STOP_AFTER, REPLAY_KEY)
        command = [sys.executable, "-P", "-c", _CODE, str(PACKAGE_ROOT)]
        try:
            subprocess.run(
                ["/bin/sh", "-c", _DETACH, "sh", *command],
                stdin=theirs_in.fileno(),
                stdout=theirs_out,
                env={name: value for name, value in os.environ.items() if name not in hidden},
                start_new_session=True,
                check=True,
            )
        finally:
            theirs_in.close()
            os.close(theirs_out)
        os.set_blocking(self._in, False)
        self._send(request)

    @property
    def run(self) -> str:
        """The run's id."""
        return str((self.ready or {}).get("run", ""))

    def read(self, wait_seconds: float) -> bool:
        """Take what the agent has said, waiting at most *wait_seconds* for something; False once it will say nothing more."""
        if self._in < 0 or not _readable(self._in, wait_seconds):
            return self._in >= 0
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._in, 1 << 16):
                self._rest += data
            os.close(self._in)
            self._in = -1
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, FormatError):  # nothing an agent of ours says; nothing to break training for
                self._take(json.loads(line))
        return self._in >= 0

    def finish(self, exit_code: int) -> None:
        """Say that the watch is over and wait for the verdict."""
        self.over = True
        self._send({"closed": exit_code})
        until = time.monotonic() + VERDICT_SECONDS
        with contextlib.suppress(KeyboardInterrupt):  # whoever is in a hurry need not wait; the agent finishes by itself
            while self.result is None and self.read(max(0.0, until - time.monotonic())) and time.monotonic() < until:
                pass
        if self.result is not None:
            with contextlib.suppress(FormatError):
                self.findings = [from_json(Finding, finding) for finding in self.result["findings"]]
        elif self._in < 0:
            self._complain("ended before the watch did: what came after was not checked")
        else:
            self._complain("is not done yet; it ends by itself and speaks here")
        self.hang_up()

    def give_up(self) -> None:
        """Nobody is going to be watched: the agent ends once it gets to reading it."""
        self._send({"closed": INTERRUPTED})
        self.hang_up()

    def hang_up(self) -> None:
        """Close our ends; what the agent still has to say goes to standard error alone."""
        if self._in >= 0:
            os.close(self._in)
        self._out.close()
        self._in = -1

    def _complain(self, what: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a program may have closed its standard error
            sys.stderr.write(f"truerun: the agent of run {self.run} {what}\n")

    def _send(self, value: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # an agent that is gone hears nothing; training goes on
            self._out.sendall(json.dumps(value).encode() + b"\n", socket.MSG_NOSIGNAL)

    def _take(self, said: dict[str, Any]) -> None:
        if "finding" in said:
            self.findings.append(from_json(Finding, said["finding"]))
        elif said.keys() <= {"ready", "refused", "result"}:
            for name, value in said.items():
                setattr(self, name, value)


def watch(
    model: Any = None,
    optimizer: Any = None,
    loader: Any = None,
    *,
    run_id: str | None = None,
    against: str | None = None,
    config: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Watch:
    """See `truerun.watch`."""
    try:
        from truerun.adapters.pytorch import probe, reading
    except ModuleNotFoundError as error:
        raise MissingExtraError("truerun.watch needs torch", next_step="pip install 'truerun[torch]'") from error
    models = check_arguments(model, optimizer, loader)
    if _open is not None and os.getpid() == _open._pid:  # noqa: SLF001 (same module)
        raise UsageError(
            f"this process is watched already (run {_open.run})",
            expected="one watch at a time",
            next_step="close the first: watch.close(), or leave its with block",
        )
    for known in models:
        reading.name_after(known)
    if probe.current() is None and os.environ.get(SOCKET):  # started anew by a watched process, before torch was there
        probe.start()
    if probe.current() is not None:
        return Watch(None)
    return _start(
        {
            "command": [text[:4000] for text in sys.orig_argv[:200]],
            "interactive": hasattr(sys, "ps1") or "ipykernel" in sys.modules or bool(sys.flags.interactive),
            "cwd": os.getcwd(),
            "pid": os.getpid(),
            "run": run_id,
            "against": against,
            "config": os.fspath(config) if config is not None else None,
            "key": os.fspath(key) if key is not None else None,
        }
    )


def _start(request: dict[str, Any]) -> Watch:
    global _open  # noqa: PLW0603 (one process, one watch)
    agent = Agent(request)
    until = time.monotonic() + START_SECONDS
    try:
        while agent.ready is None and agent.refused is None and agent.read(1.0) and time.monotonic() < until:
            pass
    except BaseException:  # Ctrl-C while inputs are locked: the agent must not wait for a watch that will not come
        agent.give_up()
        raise
    if agent.ready is None:
        agent.give_up()
    if agent.refused is not None:
        raise UsageError(**agent.refused)
    if agent.ready is None:
        raise TruerunError(
            "nobody watches: the agent ended before it began",
            next_step=f"see what it said above; it runs as {sys.executable} and needs truerun's dependencies there",
        )
    _open = Watch(agent)
    _open._begin(agent.ready["variables"])  # noqa: SLF001 (same module)
    return _open


def check_arguments(model: Any, optimizer: Any, loader: Any) -> list[Any]:
    """The models among the arguments; raises UsageError for what is none, or where they do not belong together."""
    import torch

    models = _each(model)
    for one in models:
        if not isinstance(one, torch.nn.Module):
            raise UsageError("the model to watch is not a model", got=_kind(one), expected="a torch.nn.Module, or several")
    optimizers = _each(optimizer)
    for one in optimizers:
        if not isinstance(one, torch.optim.Optimizer) and not hasattr(one, "param_groups"):
            raise UsageError("the optimizer to watch is not one", got=_kind(one), expected="a torch.optim.Optimizer, or several")
    if loader is not None and not isinstance(loader, Iterable):
        raise UsageError("the loader to watch gives no batches", got=_kind(loader), expected="a torch.utils.data.DataLoader")
    held = {id(tensor) for one in optimizers for group in one.param_groups for tensor in group["params"]}
    if models and held and not any(id(tensor) in held for one in models for tensor in one.parameters()):
        raise UsageError(
            "the optimizer holds none of the model's parameters, so training would leave the model as it is",
            expected="an optimizer made from this model's parameters()",
            next_step="make the optimizer after the model has its final parameters and is on its device",
        )
    return models


def _readable(descriptor: int, wait_seconds: float) -> bool:
    """Whether there is something to read; `select` would refuse the descriptors of a program that has many files open."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, wait_seconds) * 1000))


def _each(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, Sequence) and not hasattr(value, "parameters") else [value]


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _exit_code(error: BaseException | None) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0 if error is None else INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
