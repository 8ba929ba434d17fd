"""The worker processes of data loaders, put together by pass: each speaks on a line of its own and names the loader's seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.apps.judging.judge import Findings
from truerun.monitoring.worker_seeds import WorkerSeen, check_passes, check_workers

MAX_PASSES, MAX_WORKERS, MAX_WAITING = 4096, 1024, 8
MAX_GENERATORS = 64


@dataclass(slots=True)
class PassWorkers:
    """The workers of one pass so far; `after` is filled by their first batches."""

    begun: dict[int, Mapping[str, str]] = field(default_factory=dict)
    after: dict[int, Mapping[str, str]] = field(default_factory=dict)
    expected: int = 0

    @property
    def seen(self) -> tuple[WorkerSeen, ...]:
        """Those that have made a batch."""
        both = sorted(self.begun.keys() & self.after.keys())
        return tuple(WorkerSeen(worker=worker, begun=self.begun[worker], after=self.after[worker]) for worker in both)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedPass:
    """A pass that process `pid` has ended over a loader, with the seed `base` for its workers."""

    pid: int
    base: str
    loader: str
    rank: int
    step: int
    training: bool


class LoaderWorkers:
    """Keyed by the iterating process and the seed that it gave to its workers."""

    def __init__(self) -> None:
        self._passes: dict[tuple[int, str], PassWorkers] = {}
        self._waiting: list[EndedPass] = []
        self._last: dict[tuple[int, str], tuple[str, tuple[WorkerSeen, ...]]] = {}

    def take(self, header: Mapping[str, Any]) -> None:
        """A `worker` frame."""
        key = (int(header["parent"]), str(header["base"])[:40])
        worker, number = int(header["worker"]), int(header["workers"])
        if len(self._passes) >= MAX_PASSES or not 0 <= worker < number <= MAX_WORKERS:
            return
        one = self._passes.setdefault(key, PassWorkers())
        one.expected = number
        shown = {str(name)[:100]: str(state)[:40] for name, state in list(header["states"].items())[:MAX_GENERATORS]}
        (one.begun if header["first"] is True else one.after)[worker] = shown

    def ended(self, over: EndedPass) -> None:
        """A pass is over; what its workers said may still be on the way, since each has a line of its own."""
        if len(self._waiting) < MAX_PASSES:
            self._waiting.append(over)

    def judge(self, *, everything: bool = False) -> Findings:
        """Findings about passes of which every worker was heard, in order; about *everything* that was heard at the very end."""
        found: Findings = ()
        while self._waiting:
            over = self._waiting[0]
            one = self._passes.get((over.pid, over.base))
            complete = one is not None and len(one.seen) == one.expected
            if not (complete or everything or len(self._waiting) > MAX_WAITING):
                break
            del self._waiting[0]
            if one is not None:
                del self._passes[over.pid, over.base]
                found += self._judge(over, one.seen)
        return found

    def _judge(self, over: EndedPass, seen: tuple[WorkerSeen, ...]) -> Findings:
        found = check_workers(seen, over.loader, over.rank, over.step)
        if not over.training:
            return found
        earlier = self._last.get((over.pid, over.loader))
        self._last[over.pid, over.loader] = (over.base, seen)
        # With the same seed the whole pass was meant to be the same.
        if earlier is not None and earlier[0] != over.base:
            found += check_passes(earlier[1], seen, over.loader, over.rank, over.step)
        return found
