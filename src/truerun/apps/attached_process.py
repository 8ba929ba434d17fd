"""The agent of `truerun.watch`: a process beside the training process, started by it, judging outside of it.

One JSON value a line. In: what to watch (see `adapters/watching.py`), later `{"closed": exit code}`. Out: `ready` or
`refused`, then each `finding`, at last the `result`. People read standard error: there it speaks as `truerun run` does.
Inside a project the run is locked, inspected and recorded in observe mode; elsewhere its files live in a folder that is
removed at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from truerun.apps.attending import Attached, attend
from truerun.apps.cli.output import Some
from truerun.apps.project import Project, open_project
from truerun.apps.running import RunReport, RunRequest, make_run_id, run
from truerun.apps.watched_run import WatchOutcome, WatchRequest
from truerun.core.codec import to_json
from truerun.core.errors import ProjectNotFoundError, TruerunError
from truerun.core.finding import Finding, Severity, worst
from truerun.core.run import Mode, RunResult, Verdict

LAST_WORDS_SECONDS = 5.0


class Link:
    """The two pipes to the training process. It may read slowly, or never: a thread of its own waits for it."""

    def __init__(self, incoming: IO[str], outgoing: IO[str]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="truerun-link", daemon=True)
        self._thread.start()

    def ask(self) -> dict[str, Any]:
        """The next value from the training process; empty when there will be none."""
        line = self._incoming.readline()
        value = json.loads(line) if line.strip() else {}
        return value if isinstance(value, dict) else {}

    def tell(self, kind: str, value: Any) -> None:
        """Hand one value over without waiting."""
        self._queue.put({kind: to_json(value)})

    def close(self) -> None:
        """Wait a while until everything was read."""
        self._queue.put(None)
        self._thread.join(LAST_WORDS_SECONDS)

    def _write(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            while (value := self._queue.get()) is not None:
                self._outgoing.write(json.dumps(value, default=str) + "\n")
                self._outgoing.flush()


def main() -> None:
    """Watch whoever started this."""
    outgoing = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints by mistake must not reach the pipe
    link = Link(sys.stdin, outgoing)
    some = Some(err=True)

    def found(finding: Finding) -> None:
        link.tell("finding", finding)
        some.show(finding)

    try:
        report, recorded = _watch(link, link.ask(), found)
    except TruerunError as error:
        said = {"message": error.message, "got": error.got, "expected": error.expected, "next_step": error.next_step}
        link.tell("refused", {name: None if value is None else str(value) for name, value in said.items()})
    else:
        from truerun.apps.cli.run import show_end

        some.show_rest()
        show_end(report, recorded=recorded)
        link.tell("result", report.result)
    link.close()


def _watch(link: Link, wanted: Mapping[str, Any], found: Any) -> tuple[RunReport, bool]:
    """The report, and whether the run is in a project's folder."""

    def request(run_id: str, folder: Path) -> Attached:
        return Attached(
            pid=int(wanted["pid"]),
            ready=lambda variables: link.tell("ready", {"variables": dict(variables), "run": run_id, "folder": str(folder)}),
            let_go=lambda: _let_go(link),
        )

    try:
        project = open_project(wanted["config"])
    except ProjectNotFoundError:
        if wanted["config"] is not None:
            raise
        with tempfile.TemporaryDirectory(prefix="truerun-run-", ignore_cleanup_errors=True) as folder:
            run_id = make_run_id(wanted["run"], Project.clock())
            return _watch_alone(wanted, request(run_id, Path(folder)), run_id, Path(folder), found), False
    run_id = make_run_id(wanted["run"], project.clock())
    report = run(
        project,
        RunRequest(
            command=tuple(wanted["command"]),
            cwd=Path(wanted["cwd"]),
            mode=Mode.OBSERVE,
            run=run_id,
            against=wanted["against"],
            key=wanted["key"],
            on_finding=found,
            attached=request(run_id, project.folder / "runs" / run_id),
            interactive=bool(wanted["interactive"]),
        ),
    )
    return report, True


def _let_go(link: Link) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        closed = link.ask().get("closed")
        return closed if isinstance(closed, int) else None
    return None


def _watch_alone(wanted: Mapping[str, Any], attached: Attached, run_id: str, folder: Path, found: Any) -> RunReport:
    """Watch where there is no project: nothing is recorded, and there is nothing to compare with."""
    outcome = attend(
        WatchRequest(command=tuple(wanted["command"]), cwd=Path(wanted["cwd"]), folder=folder, on_finding=found), attached
    )
    result = RunResult(
        run=run_id,
        lock=None,
        verdict=_verdict(outcome),
        mode=Mode.OBSERVE,
        findings=outcome.findings,
        steps=outcome.steps,
        metrics={name: value for name, value in outcome.metrics.items() if abs(value) < float("inf")},
        command_exit=outcome.exit_code,
        overhead=outcome.overhead,
    )
    return RunReport(result=result, decision=None, outcome=outcome, folder=folder)


def _verdict(outcome: WatchOutcome) -> Verdict:
    highest = worst(outcome.findings)
    if outcome.exit_code or (highest is not None and highest.rank >= Severity.ERROR.rank):
        return Verdict.FAIL
    unchecked = not outcome.sampling.get("samples")
    return Verdict.COULD_NOT_TELL if unchecked else Verdict.PASS
