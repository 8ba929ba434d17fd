"""Looks at watched processes from outside while they run: what their stepping thread does, and its stack when that matters.

A thread of its own, so that the agent's loop never waits. A look is a few reads of /proc; stacks cost more, so they are
taken on request or when a thread was seen asleep or still for long, and never for more than a share of the time.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from truerun.adapters.stacks import Unseen, sample_stacks, sample_still
from truerun.adapters.threads import Doing, look
from truerun.monitoring.place import Frame, Stacks, find_named_sleep
from truerun.monitoring.slow_step import Looks

LOOK_SECONDS = 0.04
SAMPLE_SECONDS, SAMPLE_RATE = 1, 40
SHARE, SHARE_LATER = 0.1, 0.02
SOON, MANY = 3, 40
FAILURES = 4
ASLEEP_IN_A_ROW = 2
STILL_IN_A_ROW = 6
PLAIN_SAMPLINGS, STILL_SAMPLES = 1, 12


@dataclass(slots=True)
class Seen:
    """What was seen of one process so far. `stopped_at` is set while it is stopped, on the monotonic clock."""

    pid: int
    thread: int
    step: int = 0
    between_steps: Counter[Doing] = field(default_factory=Counter)
    since_step: Counter[Doing] = field(default_factory=Counter)
    in_a_row: tuple[Doing, int] = (Doing.RUNNING, 0)
    first_asleep_step: int = 0
    stopped_at: float | None = None
    stops: list[float] = field(default_factory=list)
    stacks: Counter[tuple[Frame, ...]] = field(default_factory=Counter)
    still: Counter[tuple[Frame, ...]] = field(default_factory=Counter)
    latest: Stacks = field(default_factory=dict)
    latest_at: float = 0.0
    samplings: int = 0
    wanted: bool = False

    @property
    def asleep(self) -> Looks:
        """The looks and how many of them found it asleep; those after the last step do not count: training may be over."""
        counts = self.between_steps
        return Looks(looks=sum(counts.values()), slept=counts[Doing.ASLEEP], since_step=self.first_asleep_step)

    @property
    def was_asleep(self) -> bool:
        """Whether any look found it asleep."""
        return self.first_asleep_step > 0

    @property
    def sleeps_most(self) -> bool:
        """Whether what it waits for is a sleep more often than anything else."""
        counts = self.between_steps + self.since_step
        return counts[Doing.ASLEEP] > counts[Doing.WAITING]


class Looker:
    """Starts with the first process to look at. `unseen` says why there are no stacks, empty while there is no trouble."""

    def __init__(
        self,
        sample: Callable[..., Stacks] = sample_stacks,
        sample_still: Callable[..., Stacks] = sample_still,
        observe: Callable[[int, int], Doing] = look,
    ) -> None:
        self.seen: dict[int, Seen] = {}
        self.unseen = ""
        self._sample, self._sample_still, self._observe = sample, sample_still, observe
        self._steps: dict[int, int] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._busy_until = 0.0
        self._failures = 0
        self._looking: threading.Thread | None = None
        self._sampling: threading.Thread | None = None

    def follow(self, pid: int, thread: int, step: int) -> None:
        """Look at *pid* from now on; *step* is how far it has come."""
        self._steps[pid] = step
        known = self.seen.get(pid)
        if known is None or known.thread != thread:
            self.seen[pid] = Seen(pid, thread)
        if self._looking is None:
            self.start()

    def start(self) -> None:
        """Begin to look."""
        self._looking = threading.Thread(target=self._run, name="truerun-looker", daemon=True)
        self._looking.start()

    def want(self, pid: int) -> None:
        """Take stacks of *pid* as soon as the budget allows."""
        if pid in self.seen:
            self.seen[pid].wanted = True

    def forget(self, pid: int) -> None:
        """*pid* has ended: keep what was seen, look no more."""
        self._steps.pop(pid, None)

    def close(self) -> None:
        """End the looking; waits for stacks that are being taken, a second or two."""
        self._ended.set()
        for thread in (self._looking, self._sampling):
            if thread is not None:
                thread.join(timeout=SAMPLE_SECONDS + 2.0)

    def once(self, now: float) -> None:
        """One look at every process that is followed."""
        for pid, step in list(self._steps.items()):
            seen = self.seen[pid]
            doing = self._observe(pid, seen.thread)
            if step != seen.step:
                seen.between_steps.update(seen.since_step)
                seen.step, seen.since_step = step, Counter()
            seen.since_step[doing] += 1
            seen.in_a_row = (doing, seen.in_a_row[1] + 1 if seen.in_a_row[0] is doing else 1)
            if doing is Doing.ASLEEP and not seen.first_asleep_step:
                seen.first_asleep_step = max(1, step)
            self._note_stop(seen, doing, now)
            asleep = doing is Doing.ASLEEP and (seen.in_a_row[1] >= ASLEEP_IN_A_ROW or seen.asleep.is_much)
            if seen.wanted or asleep or (doing is Doing.WAITING and seen.in_a_row[1] == STILL_IN_A_ROW):
                self._start_sampling(seen, now)

    def _note_stop(self, seen: Seen, doing: Doing, now: float) -> None:
        if doing is Doing.STOPPED and seen.stopped_at is None:
            seen.stopped_at = now
        elif doing is not Doing.STOPPED and seen.stopped_at is not None:
            seen.stops.append(now - seen.stopped_at)
            seen.stopped_at = None

    def _start_sampling(self, seen: Seen, now: float) -> None:
        busy = self._sampling is not None and self._sampling.is_alive()
        if busy or self.unseen or now < self._busy_until or seen.stopped_at is not None:
            return
        seen.wanted = False
        seen.samplings += 1
        # The first few at once, then less and less often: evidence is soon complete.
        share = 1.0 if seen.samplings <= SOON else SHARE if seen.samplings <= MANY else SHARE_LATER
        self._busy_until = now + SAMPLE_SECONDS / share
        self._sampling = threading.Thread(target=self._take, args=(seen,), name="truerun-stacks", daemon=True)
        self._sampling.start()

    def _take(self, seen: Seen) -> None:
        """Cheap samples first; where they name no line that sleeps, dear ones that tell who was still."""
        named, begun = find_named_sleep(seen.stacks) is not None, time.monotonic()
        try:
            if named or seen.samplings <= PLAIN_SAMPLINGS or seen.samplings % 2:
                found = self._sample(seen.pid, seen.thread, seconds=SAMPLE_SECONDS, rate=SAMPLE_RATE)
                with self._lock:
                    seen.stacks.update(found)
                    seen.latest, seen.latest_at = found, begun
            else:
                found = self._sample_still(seen.pid, seen.thread, times=STILL_SAMPLES)
                with self._lock:
                    seen.still.update(found)
            self._failures = 0
        except Unseen as error:
            # A single failure is a process that moved on while it was read, or that ended.
            self._failures += self._observe(seen.pid, seen.thread) is not Doing.GONE
            if error.lasting or self._failures >= FAILURES:
                self.unseen = str(error)

    def stacks(self, pid: int) -> Stacks:
        """Stacks of *pid* counted so far."""
        with self._lock:
            return dict(self.seen[pid].stacks) if pid in self.seen else {}

    def still(self, pid: int) -> Stacks:
        """Stacks of *pid* that found it still."""
        with self._lock:
            return dict(self.seen[pid].still) if pid in self.seen else {}

    def latest(self, pid: int, since: float) -> Stacks:
        """Stacks of *pid* as they were taken last, none if that was not after *since* (steady seconds)."""
        with self._lock:
            seen = self.seen.get(pid)
            return dict(seen.latest) if seen is not None and seen.latest_at >= since else {}

    def _run(self) -> None:
        # The distance between looks is drawn anew each time, so that nothing can step in time with it.
        while not self._ended.wait(random.uniform(0.5, 1.5) * LOOK_SECONDS):  # noqa: S311 (no secret)
            with contextlib.suppress(OSError):
                self.once(time.monotonic())
