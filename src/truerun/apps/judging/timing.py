"""The clock seen from outside: steps that wait, sleeps and their lines, hangs, stopped processes, jumps of the wall clock.

The probe's sense tells where each step's time went; a thread of the agent looks at the processes themselves. In-process
tests watch their own process: that one is not looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from truerun.adapters import process
from truerun.adapters.pytorch.frames import Frame
from truerun.adapters.threads import waiting_for_processor
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.stack_sampling import Looker, Seen
from truerun.apps.watched_run import StepRecord, WatchRequest
from truerun.monitoring import probe_silent, process_killed, slow_run
from truerun.monitoring.clock_jump import check_clock
from truerun.monitoring.place import find_named_sleep, find_step, find_still, find_wait
from truerun.monitoring.process_stopped import check_stop
from truerun.monitoring.run_hangs import MIN_SECONDS, check_hang, is_overdue
from truerun.monitoring.slow_step import Known, check_sleep, check_unplaced_sleep, check_wait
from truerun.monitoring.step_times import Lost, StepTimes, parse_step_time

TICK_SECONDS, PAUSED_SECONDS = 0.2, 5.0
QUIET_LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 10.0
MAX_PLACES = 20
LOST_STEPS = 5
CUT_CPU_SECONDS = 2.0
SILENT_SECONDS, SILENT_FACTOR = 4.0, 10.0
QUIET_CPU_SECONDS, QUIET_FACTOR = 20.0, 50.0


class TimingJudge(Judge):
    """Judges time. `looker` and `clock` (steady, wall and suspended-too seconds) are for tests to replace."""

    name = "time"
    kinds = frozenset({"clock", "worker-ended", "exception"})

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        self.looker = Looker()
        self.clock: Callable[[], tuple[float, float, float]] = _clocks
        self.used: Callable[[int], float | None] = process.cpu_seconds
        self._times: dict[tuple[int, int], StepTimes] = {}
        self._threads: dict[int, int] = {}
        self._lost: dict[int, tuple[float, Lost]] = {}
        self._quiet: dict[int, tuple[int, float, float]] = {}
        self._places: dict[int, dict[str, float]] = {}
        self._ticked = self._looked_for_quiet = 0.0
        self._last = self.clock()
        self._began, self._waiting = self._last[0], waiting_for_processor()
        self._known = self._read_known()
        self._declared = self._read_declared()
        self._told_slow: set[int] = set()

    # What the probe says.

    def step(self, known: Process, record: StepRecord, notes: frozenset[str], extra: Mapping[str, Any]) -> Findings:
        """The times of one step."""
        if "tid" in extra:
            self._threads[known.pid] = int(extra["tid"])
        if "w" not in extra:
            return ()
        times = self._times.setdefault((known.pid, record.optimizer), StepTimes())
        if times.add(parse_step_time(record.step, extra)):
            lost = times.lost() if times.steps % LOST_STEPS == 0 or known.pid not in self._lost else None
            if lost is not None:
                since = self._lost[known.pid][0] if known.pid in self._lost else self.clock()[0]
                self._lost[known.pid] = since, lost
                self.looker.want(known.pid)
        if times.steps % slow_run.MIN_STEPS == 0:
            return self._judge_pace(known)
        return ()

    def take(self, known: Process, frame: Frame) -> Findings:
        """A jump of the clock, a worker that ended, the exception that ended the program."""
        header, (step, rank) = frame.header, known.place(known.steps)
        if header["kind"] == "clock":
            return check_clock(float(header["jump"]), 0.0, step)
        if header["kind"] == "worker-ended":
            return process_killed.check_worker(str(header["workers"])[:80], header.get("signal"), step, rank)
        if header["memory"] is True:
            return process_killed.check_memory(str(header["what"])[:300], str(header["where"])[:200], step, rank)
        return ()

    # What is seen from outside.

    def tick(self, processes: Sequence[Process], child: int) -> Findings:
        """A few times a second: look, and say what has become clear."""
        now, wall, with_sleep = self.clock()
        if now - self._ticked < TICK_SECONDS:
            return ()
        if now - self._ticked > PAUSED_SECONDS:
            self._quiet.clear()  # this process did not look meanwhile: it was stopped itself, with the command or alone
        self._ticked = now
        found = self._judge_clock(now, wall, with_sleep, processes)
        for known in processes:
            thread = self._threads.get(known.pid)
            if thread is None or known.pid == os.getpid():
                continue
            if not known.open:
                self.looker.forget(known.pid)
                continue
            self.looker.follow(known.pid, thread, known.offset + known.steps)
            seen = self.looker.seen[known.pid]
            found += self._judge_stops(known, seen, now) + self._judge_sleep(known, seen, now, ended=False)
        if now - self._looked_for_quiet > QUIET_LOOK_SECONDS:
            self._looked_for_quiet = now
            # A process that started another program in its place (exec) speaks anew: only its latest line counts.
            latest = {known.pid: known for known in processes}
            found += tuple(finding for known in latest.values() for finding in self._judge_quiet(known, now))
        return found

    def finish(self, processes: Sequence[Process]) -> Findings:
        """What was seen and not yet said."""
        self.looker.close()
        found: Findings = ()
        for known in processes:
            seen = self.looker.seen.get(known.pid)
            if seen is not None:
                found += self._judge_sleep(known, seen, self.clock()[0], ended=True)
        return found

    def learned(self) -> Mapping[str, Any]:
        """The typical step of each optimizer of rank 0, where it slept, and on what kind of machine."""
        if not self._times:
            return {}
        first = min(pid for pid, _ in self._times)
        typical = {str(number): times.typical() for (pid, number), times in self._times.items() if pid == first}
        sleeps = {place: round(share, 3) for places in self._places.values() for place, share in places.items()}
        return {
            "typical": typical,
            "sleeps": sleeps,
            "looked": bool(self.looker.seen) and not self.looker.unseen,
            "host": _host(),
            "ranks": len({pid for pid, _ in self._times}),
        }

    # One judgement each.

    def _judge_clock(self, now: float, wall: float, with_sleep: float, processes: Sequence[Process]) -> Findings:
        then, wall_then, sleep_then = self._last
        self._last = now, wall, with_sleep
        passed = now - then
        step = max((known.offset + known.steps for known in processes), default=0)
        return check_clock((wall - wall_then) - passed, (with_sleep - sleep_then) - passed, step)

    def _judge_stops(self, known: Process, seen: Seen, now: float) -> Findings:
        step, rank = known.place(known.steps)
        found: Findings = ()
        if seen.stops:
            found = check_stop(seen.stops[-1], sum(seen.stops), len(seen.stops), resumed=True, step=step, rank=rank)
        if seen.stopped_at is not None:
            lasting = now - seen.stopped_at
            found += check_stop(lasting, lasting, len(seen.stops) + 1, resumed=False, step=step, rank=rank)
        return found

    def _judge_sleep(self, known: Process, seen: Seen, now: float, *, ended: bool) -> Findings:
        since, lost = self._lost.get(known.pid, (now, None))
        looks = seen.asleep
        if lost is None and not looks.is_much:
            return ()
        places = self._places.setdefault(known.pid, {})
        still = find_wait(self.looker.still(known.pid))
        named = find_named_sleep(self.looker.stacks(known.pid)) if seen.was_asleep else None
        place = named or (still if seen.sleeps_most else None)
        step, rank = known.place(known.steps)
        if place is None:
            self.looker.want(known.pid)
        else:
            self._lost.pop(known.pid, None)
            if place.frame.shown in places or len(places) >= MAX_PLACES:
                return ()
            places[place.frame.shown] = looks.share
            return check_sleep(place, looks, lost, self._known, rank=rank, step=step)
        if places:
            return ()
        why = self.looker.unseen or "the run ended too soon"
        if looks.is_much:
            return check_unplaced_sleep(looks, rank, why) if ended or self.looker.unseen else ()
        if not ended and now - since < PATIENCE_SECONDS:
            return ()
        self._lost.pop(known.pid, None)
        if lost is None or len({pid for pid, _ in self._times}) > 1:
            return ()  # among several ranks each waits for the slowest
        return check_wait(lost, still, rank, self._busy(), why if self.looker.unseen else "it was not seen asleep")

    def _judge_quiet(self, known: Process, now: float) -> Findings:
        """A process from which no step has come for long: it waits, or it computes, or it steps and says nothing."""
        times = [found for (pid, _), found in self._times.items() if pid == known.pid]
        if known.bye is not None or not times or known.pid == os.getpid():
            return ()
        used = self.used(known.pid)
        steps, since, used_then = self._quiet.get(known.pid, (-1, now, 0.0))
        seen = self.looker.seen.get(known.pid)
        if used is None or steps != known.steps or (seen is not None and seen.stopped_at is not None):
            self._quiet[known.pid] = known.steps, now, used or 0.0
            return ()
        quiet, computed, (step, rank) = now - since, used - used_then, known.place(known.steps)
        if not known.open:
            return probe_silent.check_cut(step, rank) if computed > CUT_CPU_SECONDS else ()
        usual, longest = max(found.usual_seconds for found in times), max(found.longest_seconds for found in times)
        if quiet > max(SILENT_SECONDS, SILENT_FACTOR * usual) and computed > SILENT_FACTOR * max(map(_computed, times)):
            self.looker.want(known.pid)
            if (where := find_step(self.looker.latest(known.pid, since))) is not None:
                return probe_silent.check_unrecorded(quiet, where.shown, step, rank)
        if is_overdue(quiet, usual, longest):
            return self._judge_overdue(known, quiet, computed, usual, since)
        return ()

    def _judge_overdue(self, known: Process, quiet: float, computed: float, usual: float, since: float) -> Findings:
        seen = self.looker.seen.get(known.pid)
        if seen is None:
            return ()
        self.looker.want(known.pid)
        place = find_still(self.looker.latest(known.pid, since))
        if place is None and not self.looker.unseen and quiet < 2 * MIN_SECONDS:
            return ()  # its stack is on its way
        (step, rank), why = known.place(known.steps), self.looker.unseen or "it did not answer in time"
        hangs = check_hang(quiet, computed, usual, place, step=step, rank=rank, why=why)
        if not hangs and computed > max(QUIET_CPU_SECONDS, QUIET_FACTOR * usual) and place is None:
            return probe_silent.check_quiet(computed, step, rank)
        return hangs

    def _judge_pace(self, known: Process) -> Findings:
        if known.rank not in (0, None):
            return ()
        found: Findings = ()
        learned = self.request.reference.learned.get(self.name, {})
        for (pid, number), times in self._times.items():
            now = times.typical() if pid == known.pid else {}
            if not now:
                continue
            total = now["computed"] + sum(now["waited"].values())
            if self._declared is not None:
                found += slow_run.check_declared(total, self._declared, times.steps, self._busy(), known.rank or 0)
            then = learned.get("typical", {}).get(str(number), {})
            found += slow_run.check_learned(
                now,
                then,
                same_hosts=learned.get("host") == _host(),
                same_ranks=learned.get("ranks") == len({pid for pid, _ in self._times}),
                origin=self.request.reference.learned_from,
                busy=self._busy(),
                rank=known.rank or 0,
            )
        return found

    def _busy(self) -> float | None:
        """Share of the time since the start in which something waited for a processor."""
        now, passed = waiting_for_processor(), self.clock()[0] - self._began
        return None if now is None or self._waiting is None or passed <= 0 else min(1.0, (now - self._waiting) / passed)

    def _read_known(self) -> Known | None:
        learned = self.request.reference.learned.get(self.name)
        if not isinstance(learned, Mapping) or learned.get("looked") is not True:
            return None
        sleeps = learned.get("sleeps")
        places = {str(name): float(share) for name, share in sleeps.items()} if isinstance(sleeps, Mapping) else {}
        reference = self.request.reference
        return Known(places=places, same_program=reference.same_program, origin=reference.learned_from)

    def _read_declared(self) -> float | None:
        declared = self.request.reference.values.get("step_seconds")
        return float(declared) if isinstance(declared, int | float) and not isinstance(declared, bool) and declared > 0 else None


def _computed(times: StepTimes) -> float:
    return float(times.typical().get("computed", 0.0))


def _clocks() -> tuple[float, float, float]:
    return time.monotonic(), time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)


def _host() -> str:
    """What makes two hosts alike in speed, as far as it can be read: processor model and how many may be used."""
    model = ""
    try:
        with open("/proc/cpuinfo") as lines:
            model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        model = ""
    return f"{model} x{len(os.sched_getaffinity(0))}"
