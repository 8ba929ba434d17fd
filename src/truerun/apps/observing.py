"""From frames to records and findings: what the agent makes of what the probes of one run hand over."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from truerun.adapters import process
from truerun.adapters.probe_socket import Event, Line
from truerun.adapters.probe_values import parse_discontinuity, parse_optimizer, parse_sample
from truerun.adapters.pytorch.frames import Frame
from truerun.adapters.pytorch.settings import SOCKET
from truerun.apps.judging import make_judges
from truerun.apps.judging.judge import Optimizer, Process
from truerun.apps.run_files import RunFiles
from truerun.apps.watched_run import Batch, StepRecord, WatchRequest
from truerun.core.canonical import MAX_EXACT_INTEGER
from truerun.core.errors import FormatError
from truerun.core.finding import Finding, Severity
from truerun.core.run import MetricPoint
from truerun.monitoring import metric_not_finite, probe_silent, process_killed, update_unchecked
from truerun.monitoring.changed_between_steps import check_continuity
from truerun.monitoring.hyperparameter_drift import HyperparameterWatch, check_seed
from truerun.monitoring.reference import Reference
from truerun.monitoring.step_skipped import StepPattern, check_never_stepped, check_without_gradients
from truerun.monitoring.update_mismatch import check_update

MAX_POINTS = 200_000
MAX_OF_A_RULE = 20
UNWATCHED_SCANS, UNWATCHED_CPU_SECONDS = 3, 10.0
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, FormatError)


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
        self.out_of_memory = False
        self.signals: list[int] = []
        self.urgent = False
        self._findings: dict[str, Finding] = {}
        self._times: Counter[str] = Counter()
        self._unwatched: dict[int, list[float]] = {}
        self._importing: set[int] = set()
        self._next_scan = 1.0
        self._fresh: list[Finding] = []
        self._reach: dict[int, int] = {}
        self._batched: dict[int, int] = {}
        self._cost = 0.0
        self._looks: Counter[str] = Counter()
        self._begun = time.monotonic()
        self.judges = make_judges(request)
        self._by_kind = {kind: judge for judge in self.judges for kind in judge.kinds}

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
    def spent_by(self) -> dict[str, float]:
        """The part of each sense in it."""
        parts: Counter[str] = Counter()
        for known in self.processes.values():
            parts.update(known.spent_by if known.rank in (0, None) else {})
        return dict(parts)

    @property
    def looks(self) -> dict[str, int]:
        """What was had for it, as `Overhead.looks`."""
        sampled = {"update": self.sampling["samples"], "coordinates": self.sampling["coordinates"]}
        return {name: int(count) for name, count in {**sampled, **self._looks}.items() if count}

    @property
    def stopped(self) -> bool:
        """Whether the run ended because it was asked to after so many steps."""
        limit = self.request.stop_after
        return limit is not None and any(known.bye is not None and known.steps >= limit for known in self.processes.values())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in the order they were made; `times` in the evidence says how often each was seen."""
        return tuple(
            replace(finding, evidence={**finding.evidence, "times": self._times[key]}) if self._times[key] > 1 else finding
            for key, finding in self._findings.items()
        )

    @property
    def effective(self) -> dict[str, Any]:
        """Hyperparameters that rank 0's first optimizer was seen to use at its first step."""
        first = next((known for known in self.processes.values() if known.rank == 0 and known.optimizers), None)
        if first is None:
            return {}
        seed = first.seed if first.seed is None or abs(first.seed) <= MAX_EXACT_INTEGER else str(first.seed)
        learned = {judge.name: dict(found) for judge in self.judges if (found := judge.learned())}
        shown = {**first.optimizers[min(first.optimizers)].hyperparameters.effective(), "seed": seed}
        return {**shown, "learned": learned} if learned else shown

    @property
    def sampling(self) -> dict[str, Any]:
        """How densely was looked: full checks, coordinates in each, parameters, steps of rank 0."""
        every = [optimizer for known in self.processes.values() if known.rank == 0 for optimizer in known.optimizers.values()]
        return {
            "samples": sum(optimizer.samples for optimizer in every),
            "coordinates": max((sum(optimizer.seen.counts) for optimizer in every), default=0),
            "parameters": sum(sum(optimizer.seen.sizes) for optimizer in every),
            "steps": self.steps,
        }

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
                known.open, known.closed = False, time.monotonic()
            return
        if known is None:
            known = self.processes[event.line] = Process(event.line.pid, {})
        kind = event.frame.header["kind"]
        handler, judge = getattr(self, f"_on_{kind}", None), self._by_kind.get(kind)
        # A frame that does not hold what its kind promises was not made by our probe: it counts as not received.
        with contextlib.suppress(*MALFORMED):
            if handler is not None:
                handler(event.line, known, event.frame)
            elif judge is not None:
                begun = time.thread_time()
                self._looks[judge.name] += known.rank in (0, None)
                self._report_all(judge.take(known, event.frame))
                self._cost = 0.9 * self._cost + 0.1 * (time.thread_time() - begun)

    def tick(self, child: int, elapsed: float) -> None:
        """Called a few times a second while the command runs: looks for what does not report by itself."""
        if not self.request.checks:
            return
        for judge in self.judges:
            self._report_all(judge.tick(list(self.processes.values()), child))
        if elapsed < self._next_scan:
            return
        self._next_scan = elapsed + min(15.0, max(1.0, elapsed / 5))
        watched = {known.pid for known in self.processes.values()}
        for pid in process.torch_processes(child, watched):
            # Processor time, not wall time: on a busy machine importing torch alone can take long.
            used = self._unwatched[pid] = [*self._unwatched.get(pid, []), process.cpu_seconds(pid) or 0.0]
            # One that will report as soon as torch is imported gets the time that importing takes.
            if process.carries(pid, SOCKET) and used[-1] - used[0] <= UNWATCHED_CPU_SECONDS:
                self._importing.add(pid)
            else:
                self._importing.discard(pid)
        early = [
            pid for pid, used in self._unwatched.items() if used[-1] - used[0] > UNWATCHED_CPU_SECONDS and pid not in watched
        ]
        if early:
            self._report_all(probe_silent.check_unwatched(len(early), self.steps))

    def finish(self, returncode: int, *, timed_out: bool) -> None:
        """The command has ended."""
        if not self.request.checks:
            return
        for judge in self.judges:
            self._report_all(judge.finish(list(self.processes.values())))
        watched = {known.pid for known in self.processes.values()}
        missing = [
            pid
            for pid, used in self._unwatched.items()
            if len(used) >= UNWATCHED_SCANS and pid not in watched and pid not in self._importing
        ]
        self._report_all(probe_silent.check_unwatched(len(missing), self.steps))
        # One that started another program in its place (exec) has not vanished: it spoke anew.
        latest = {known.pid: known for known in self.processes.values()}
        lost = sorted(
            (known for known in latest.values() if known.steps > 0 and known.bye is None), key=lambda known: known.closed
        )
        self._report_all(
            process_killed.check_ending(
                returncode,
                passed_on=tuple(self.signals),
                out_of_memory=self.out_of_memory,
                timed_out=timed_out,
                vanished=len(lost),
                step=lost[0].offset + lost[0].steps if lost else self.steps,
                first_rank=lost[0].rank if len(lost) > 1 else None,
            )
        )

    def batch(self) -> None:
        """Flush the files and report what is new since the last batch."""
        self.files.progress(time.monotonic() - self._begun, self._reach, self.spent)
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
        key = f"{finding.rule} {finding.subject!r} {finding.evidence.get('term')} {finding.location.rank}"
        self._times[key] += 1
        for judge in self.judges:
            judge.heard(finding)
        if key in self._findings or sum(known.rule == finding.rule for known in self._findings.values()) >= MAX_OF_A_RULE:
            return
        self._findings[key] = finding
        self._fresh.append(finding)
        self.files.finding(finding)
        self.urgent = self.urgent or finding.severity.rank >= Severity.ERROR.rank
        if self.request.on_finding is not None:
            self.request.on_finding(finding)

    def _report_all(self, findings: tuple[Finding, ...]) -> None:
        for finding in findings if self.request.checks else ():
            self.report(finding)

    # Frames, by kind.

    def _on_hello(self, line: Line, known: Process, frame: Frame) -> None:
        known.hello = frame.header
        twins = [other for other in self.processes.values() if other is not known and other.open and other.pid == known.pid]
        for other in twins:
            self._report_all(probe_silent.check_twice(other.rank or 0, other.offset + other.steps, same_process=True))

    def _on_steps(self, line: Line, known: Process, frame: Frame) -> None:
        self._on_spent(known, frame.header)
        for row in frame.header["rows"]:
            self._on_step(known, row)

    def _on_spent(self, known: Process, header: Mapping[str, Any]) -> None:
        known.spent = float(header["spent"])
        known.spent_by = {str(name)[:40]: float(seconds) for name, seconds in dict(header.get("spent_by", {})).items()}

    def _on_step(self, known: Process, row: list[Any]) -> None:
        step, number, own_step, backwards, loss, checked, held, fingerprint, rates, groups, notes, extra = row
        at, rank = known.offset + int(step), known.rank or 0
        self._report_all(probe_silent.check_gap(known.offset + known.steps + 1, at, rank))
        known.rhythm = 0.9 * known.rhythm + 0.1 * (time.monotonic() - known.heard)
        known.heard, known.steps = time.monotonic(), int(step)
        self._reach[rank] = max(self._reach.get(rank, 0), at)
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
        shown = {
            "own_step": own_step,
            "held": held,
            "notes": notes,
            **({"groups": groups} if groups is not None else {}),
            **extra,
        }
        if rank == 0 and held:
            self._looks.update(continuity=1, held=int(held))
        self.files.step(rank, {**{name: getattr(record, name) for name in StepRecord.__slots__}, **shown})
        if self.request.keep_records and rank == 0:
            self.records.append(record)
        said = frozenset(map(str, notes))
        self._judge_step(known.optimizers[record.optimizer], record, rates, groups, said)
        for judge in self.judges:
            with contextlib.suppress(*MALFORMED):
                self._report_all(judge.step(known, record, said, extra.get(judge.name, {})))

    def _judge_step(self, optimizer: Optimizer, record: StepRecord, rates: list[Any], groups: Any, notes: frozenset[str]) -> None:
        if groups is not None:
            optimizer.groups = groups
        now = [{**group, "lr": rate} if rate is not None else group for group, rate in zip(optimizer.groups, rates, strict=True)]
        optimizer.now = now
        self._report_all(optimizer.hyperparameters.check(now, record.step, notes))
        if optimizer.seen.obstacle is None or not notes & {"closure"}:
            self._report_all(optimizer.pattern.check(record.backwards, record.step, notes))
        if record.loss is not None:
            self._report_all(metric_not_finite.check_finite("loss", record.loss, record.step, record.rank))

    def _place(self, known: Process, told: Any) -> None:
        """Give a process that steps its rank: as torch.distributed *told*, else RANK, else the first that no living process holds."""
        named = str(known.hello.get("rank") or "") if type(told) is not int else str(told)
        taken = {other.rank for other in self.processes.values() if other.open and other is not known}
        if named.isdigit() and int(named) in taken:
            self._report_all(probe_silent.check_twice(int(named), self._reach.get(int(named), 0), same_process=False))
        known.rank = int(named) if named.isdigit() else next(rank for rank in range(len(taken) + 1) if rank not in taken)
        known.offset = self._reach.get(known.rank, 0)

    def _on_metrics(self, line: Line, known: Process, frame: Frame) -> None:
        step = known.offset + int(frame.header["step"])
        for name, value in frame.header["values"].items():
            point = MetricPoint(name=str(name), step=step, value=float(value))
            self.files.metric(point, known.rank or 0)
            self._report_all(metric_not_finite.check_finite(point.name, point.value, step, known.rank or 0))
            if known.rank in (0, None):
                self.metrics[point.name] = point.value
                if len(self.points) < MAX_POINTS:
                    self.points.append(point)
            for judge in self.judges:
                with contextlib.suppress(*MALFORMED):
                    self._report_all(judge.metric(known, point))

    def _on_optimizer(self, line: Line, known: Process, frame: Frame) -> None:
        if known.rank is None:
            self._place(known, frame.header.get("rank"))
        seen = parse_optimizer(frame, known.rank or 0)
        before = known.optimizers.get(seen.number)
        if before is not None:
            before.seen = seen
        else:
            reference = self.request.reference
            accumulation = reference.values.get("accumulation")
            known.optimizers[seen.number] = Optimizer(
                seen,
                # The declaration speaks of the first optimizer; others are followed for consistency only.
                HyperparameterWatch(seen.rule, seen.kind, seen.rank, reference if not known.optimizers else Reference()),
                StepPattern(seen.kind, seen.rank, accumulation if isinstance(accumulation, int) else None),
            )
            known.seed = int(frame.header["seed"])
            self._report_all(check_seed(known.seed, seen.rank, reference))
        self._unseen(update_unchecked.check_obstacle(seen))

    def _unseen(self, findings: tuple[Finding, ...]) -> None:
        self.unseen += [finding.message for finding in findings if finding.message not in self.unseen]
        self._report_all(findings)

    def _on_sample(self, line: Line, known: Process, frame: Frame) -> None:
        begun = time.thread_time()
        optimizer = known.optimizers[frame.header["optimizer"]]
        sample = parse_sample(frame, optimizer.seen, known.offset + int(frame.header["step"]))
        if self.request.checks:
            self._report_all(check_update(sample) + check_without_gradients(sample))
        optimizer.samples += 1
        self._cost = 0.9 * self._cost + 0.1 * (time.thread_time() - begun)

    def _on_discontinuity(self, line: Line, known: Process, frame: Frame) -> None:
        optimizer = known.optimizers[frame.header["optimizer"]]
        if self.request.monitoring.between_steps == "forbidden":
            step = known.offset + int(frame.header["step"])
            self._report_all(check_continuity(parse_discontinuity(frame, optimizer.seen, step)))

    def _on_backwards(self, line: Line, known: Process, frame: Frame) -> None:
        count, optimizers = int(frame.header["count"]), int(frame.header["optimizers"])
        self._report_all(check_never_stepped(count, optimizers, known.rank or 0, ended=False))
        self._unseen(update_unchecked.check_by_hand(count, optimizers, known.rank or 0, ended=False))

    def _on_stalled(self, line: Line, known: Process, frame: Frame) -> None:
        self._check_stalled(known, int(frame.header["backwards"]), ended=False)

    def _check_stalled(self, known: Process, backwards: int, *, ended: bool) -> None:
        step = known.offset + known.steps
        found = [optimizer.pattern.check_stalled(backwards, step, ended=ended) for optimizer in known.optimizers.values()]
        if found and all(found):
            self._report_all(found[0])

    def _on_unhooked(self, line: Line, known: Process, frame: Frame) -> None:
        what = str(frame.header.get("what", "torch.optim"))[:80]
        self._report_all(probe_silent.check_unhooked(known.offset + known.steps, known.rank or 0, what))

    def _on_fault(self, line: Line, known: Process, frame: Frame) -> None:
        what = str(frame.header["what"])[:400]
        sense = frame.header.get("sense")
        step, rank = known.place(known.steps)
        self._unseen(probe_silent.check_fault(step, what, rank, str(sense)[:40] if sense is not None else None))

    def _on_bye(self, line: Line, known: Process, frame: Frame) -> None:
        header = known.bye = frame.header
        rank, steps = known.rank or 0, int(header["steps"])
        self._on_spent(known, header)
        self._report_all(probe_silent.check_gap(known.offset + known.steps + 1, known.offset + steps + 1, rank))
        self._report_all(probe_silent.check_dropped(int(header["dropped"]), rank))
        if steps:
            self._check_stalled(known, int(header["since"]), ended=True)
        else:
            backwards, optimizers = int(header["backwards"]), int(header["optimizers"])
            self._report_all(check_never_stepped(backwards, optimizers, rank, ended=True))
            self._unseen(update_unchecked.check_by_hand(backwards, optimizers, rank, ended=True))
        for judge in self.judges:
            with contextlib.suppress(*MALFORMED):
                self._report_all(judge.ended(known))
