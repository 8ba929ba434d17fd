"""From frames to records and findings: what the agent makes of what the probes of one run hand over."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.adapters.probe_socket import Event, Line
from truerun.adapters.pytorch.frames import Frame
from truerun.apps.run_files import RunFiles
from truerun.apps.watched_run import Batch, StepRecord, WatchRequest
from truerun.core.finding import Finding, Severity
from truerun.core.run import MetricPoint

MAX_POINTS = 200_000


@dataclass(slots=True, eq=False)
class Process:
    """One process that said hello: its rank once it has stepped, and how far it has come."""

    pid: int
    hello: Mapping[str, Any]
    rank: int | None = None
    offset: int = 0
    steps: int = 0
    spent: float = 0.0
    bye: Mapping[str, Any] | None = None
    open: bool = True
    groups: dict[int, list[Mapping[str, Any]]] = field(default_factory=dict)


class Observer:
    """Takes events in order, writes records, collects findings. One for each watched command."""

    def __init__(self, request: WatchRequest, files: RunFiles) -> None:
        self.request = request
        self.files = files
        self.processes: dict[Line, Process] = {}
        self.metrics: dict[str, float] = {}
        self.points: list[MetricPoint] = []
        self.records: list[StepRecord] = []
        self.unseen: list[str] = []
        self.effective: dict[str, Any] = {}
        self.sampling: dict[str, Any] = {}
        self.out_of_memory = False
        self.signals: list[int] = []
        self.urgent = False
        self._findings: dict[str, Finding] = {}
        self._fresh: list[Finding] = []
        self._reach: dict[int, int] = {}
        self._batched: dict[int, int] = {}
        self._cost = 0.0

    @property
    def steps(self) -> int:
        """Optimizer steps of rank 0 so far."""
        return self._reach.get(0, 0)

    @property
    def ranks(self) -> int:
        """How many ranks have stepped."""
        return len(self._reach)

    @property
    def spent(self) -> float:
        """Seconds that watching has cost the processes of rank 0."""
        return sum(known.spent for known in self.processes.values() if known.rank in (0, None))

    @property
    def stopped(self) -> bool:
        """Whether the run ended because it was asked to after so many steps."""
        limit = self.request.stop_after
        return limit is not None and any(known.bye is not None and known.steps >= limit for known in self.processes.values())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in the order they were made."""
        return tuple(self._findings.values())

    def cost(self) -> float:
        """Seconds of this process's time that one full check costs, lately."""
        return self._cost

    def forwarded(self, number: int) -> None:
        """Signal *number* was passed on to the command."""
        self.signals.append(number)

    def take(self, event: Event) -> None:
        """One frame, or the end of a line."""
        assert event.line is not None
        known = self.processes.get(event.line)
        if event.frame is None:
            if known is not None:
                known.open = False
            return
        if known is None:
            known = self.processes[event.line] = Process(event.line.pid, {})
        handler = getattr(self, f"_on_{event.frame.header['kind']}", None)
        if handler is not None:
            # A frame that does not hold what its kind promises was not made by our probe: it counts as not received.
            with contextlib.suppress(KeyError, TypeError, ValueError, IndexError, AttributeError):
                handler(event.line, known, event.frame)

    def tick(self, child: int, elapsed: float) -> None:
        """Called a few times a second while the command runs."""

    def finish(self, returncode: int, seconds: float) -> None:
        """The command has ended."""

    def batch(self) -> None:
        """Flush the files and report what is new since the last batch."""
        self.files.flush()
        fresh, self._fresh, self.urgent = tuple(self._fresh), [], False
        moved = [rank for rank, reach in sorted(self._reach.items()) if reach > self._batched.get(rank, 0)]
        if self.request.on_batch is None or not (moved or fresh):
            return
        for rank in moved or [0]:
            digest, size = self.files.records(rank)
            first, last = self._batched.get(rank, 0) + 1, self._reach.get(rank, 0)
            self._batched[rank] = last
            self.request.on_batch(
                Batch(rank=rank, first_step=min(first, last), last_step=last, records=digest, records_size=size, findings=fresh)
            )
            fresh = ()

    def report(self, finding: Finding) -> None:
        """Keep *finding* unless the same one is known already; tell whoever wants to know at once."""
        key = finding.rule + repr(finding.subject)
        if key in self._findings:
            return
        self._findings[key] = finding
        self._fresh.append(finding)
        self.files.finding(finding)
        self.urgent = self.urgent or finding.severity.rank >= Severity.ERROR.rank
        if self.request.on_finding is not None:
            self.request.on_finding(finding)

    # Frames, by kind.

    def _on_hello(self, line: Line, known: Process, frame: Frame) -> None:
        known.hello = frame.header

    def _on_steps(self, line: Line, known: Process, frame: Frame) -> None:
        known.spent = float(frame.header["spent"])
        for row in frame.header["rows"]:
            self._on_step(known, row)

    def _on_step(self, known: Process, row: list[Any]) -> None:
        step, number, own_step, backwards, loss, checked, held, fingerprint, rates, groups, notes = row
        if known.rank is None:
            self._place(known)
        rank = known.rank or 0
        known.steps = int(step)
        at = known.offset + known.steps
        self._reach[rank] = max(self._reach.get(rank, 0), at)
        if groups is not None:
            known.groups[number] = groups
        record = StepRecord(
            step=at,
            rank=rank,
            optimizer=int(number),
            loss=None if loss is None else float(loss),
            lr=float(rates[0]) if rates and rates[0] is not None else None,
            backwards=int(backwards),
            checked=bool(checked),
            fingerprint=fingerprint,
        )
        shown = {"own_step": own_step, "held": held, "notes": notes} | ({"groups": groups} if groups is not None else {})
        self.files.step(rank, {**{name: getattr(record, name) for name in StepRecord.__slots__}, **shown})
        if self.request.keep_records and rank == 0:
            self.records.append(record)

    def _place(self, known: Process) -> None:
        """Give a process that steps its rank: RANK if it has one, else the first place no living process holds."""
        named = str(known.hello.get("rank") or "")
        taken = {other.rank for other in self.processes.values() if other.open and other is not known}
        known.rank = int(named) if named.isdigit() else next(rank for rank in range(len(taken) + 1) if rank not in taken)
        known.offset = self._reach.get(known.rank, 0)

    def _on_metrics(self, line: Line, known: Process, frame: Frame) -> None:
        step = known.offset + int(frame.header["step"])
        for name, value in frame.header["values"].items():
            point = MetricPoint(name=str(name), step=step, value=float(value))
            self.files.metric(point, known.rank or 0)
            if known.rank in (0, None):
                self.metrics[point.name] = point.value
                if len(self.points) < MAX_POINTS:
                    self.points.append(point)

    def _on_bye(self, line: Line, known: Process, frame: Frame) -> None:
        known.bye = frame.header
        known.steps = max(known.steps, int(frame.header["steps"]))
        known.spent = float(frame.header["spent"])

    def _on_sample(self, line: Line, known: Process, frame: Frame) -> None:
        begun = time.thread_time()
        self._cost = 0.9 * self._cost + 0.1 * (time.thread_time() - begun)
