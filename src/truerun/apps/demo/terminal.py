"""The demo's terminal: real commands of Truerun, called in this process by different people at different times, and their real output."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from truerun.apps.demo.team import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How a command ended, and what it printed where that was not shown."""

    exit_code: int
    text: str = ""


class Terminal:
    """
    Runs commands in *root*, signing with the keys in *keys*.

    Changes this process's folder and environment while a command runs and puts them back after it. *quiet* shows nothing,
    not even what the commands' children print.
    """

    def __init__(self, root: Path, keys: Path, *, quiet: bool = False) -> None:
        self._root, self._keys, self._quiet = root, keys, quiet

    def heading(self, text: str) -> None:
        """A short heading."""
        self.say(f"\n── {text} {'─' * max(2, 88 - len(text))}", bold=True)

    def say(self, text: str = "", *, bold: bool = False) -> None:
        """A line of the story."""
        from truerun.apps.cli.output import say

        if not self._quiet:
            say(text, bold=bold)
            sys.stdout.flush()

    def run(self, who: Member, at: dt.datetime, *arguments: str, shown: bool = True) -> Answered:
        """Run `truerun ARGUMENTS` as *who*; with *shown* the command and its output are part of the story."""
        from truerun.apps.cli.main import main

        shown = shown and not self._quiet
        if shown:
            self.say(f"\n{who.id}$ truerun {shlex.join(arguments)}", bold=True)
        held = io.StringIO()
        with self._place(who, at), contextlib.ExitStack() as stack:
            if not shown:
                stack.enter_context(contextlib.redirect_stdout(held))
                stack.enter_context(contextlib.redirect_stderr(held))
                stack.enter_context(_silent_children())
            try:
                main(list(arguments))
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 0
            finally:
                sys.stdout.flush()
        return Answered(exit_code=code, text=held.getvalue())

    @contextlib.contextmanager
    def _place(self, who: Member, at: dt.datetime) -> Iterator[None]:
        before, folder = dict(os.environ), Path.cwd()
        os.environ.update(
            # The interpreter that runs the demo is the `python` of the project's command, as in an activated environment.
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            TRUERUN_KEY=str(self._keys / who.id),
            TRUERUN_AT=at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        os.environ.pop("TRUERUN_CONFIG", None)
        os.chdir(self._root)
        try:
            yield
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def _silent_children() -> Iterator[None]:
    """Children write to file descriptors 1 and 2, which Python's redirection does not reach."""
    sys.stdout.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        yield
    finally:
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)
