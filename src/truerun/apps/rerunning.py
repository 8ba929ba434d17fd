"""Reruns for `trace` and `recover`: a Laboratory over real training, through the same agent as `truerun run`, without the ledger.

Several at a time, each in a rebuilt project of its own with its share of the cores. A rerun that fails is an observation.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from truerun.adapters.workspace import Built, Workspaces
from truerun.apps.agent import watch
from truerun.apps.watched_run import WatchOutcome, WatchRequest
from truerun.attribution.candidates import closure
from truerun.attribution.laboratory import Measurement, Subset
from truerun.core.declaration import MonitoringSection
from truerun.core.errors import CommandNotFoundError, InputError

# Fingerprints must be taken at the same coordinates in every rerun to be comparable; nothing is hidden from a rerun.
REPLAY_KEY = b"truerun-trace-01".hex()
TAIL_BYTES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """How reruns are made: the metric that is read, how many at a time, and the longest one may take."""

    metric: str
    parallel: int
    timeout_seconds: float
    monitoring: MonitoringSection


class Reruns:
    """A Laboratory (`attribution/laboratory.py`) of real training. `positions` maps the search's positions to candidates."""

    def __init__(self, workspaces: Workspaces, scratch: Path, how: Rerun, on_start: Callable[[Subset, int], None]) -> None:
        self.workspaces, self.scratch, self.how, self.on_start = workspaces, scratch, how, on_start
        self.positions = tuple(candidate.position for candidate in workspaces.candidates if candidate.applies)
        self.seconds: list[float] = []
        self._count = 0

    @property
    def parallel(self) -> int:
        """How many reruns at a time."""
        return self.how.parallel

    def closed(self, subset: Subset) -> Subset:
        """*subset* of the search's positions with what its members need."""
        place = {candidate: position for position, candidate in enumerate(self.positions)}
        wanted = closure(self.workspaces.candidates, (self.positions[position] for position in subset))
        return frozenset(place[candidate] for candidate in wanted if candidate in place)

    def measure(self, subsets: Sequence[Subset]) -> tuple[Measurement, ...]:
        """Full reruns."""
        return self._all(subsets, None)

    def replay(self, subsets: Sequence[Subset], steps: int) -> tuple[Measurement, ...]:
        """The first *steps* steps."""
        return self._all(subsets, steps)

    def _all(self, subsets: Sequence[Subset], steps: int | None) -> tuple[Measurement, ...]:
        built = [self._build(subset) for subset in subsets]
        with ThreadPoolExecutor(max_workers=self.how.parallel, thread_name_prefix="truerun-rerun") as pool:
            pairs = list(zip(subsets, built, strict=True))
            try:
                return tuple(pool.map(lambda pair: self._run(pair[0], pair[1], steps), pairs))
            except KeyboardInterrupt:
                # Reruns have process groups of their own, which the terminal's Ctrl-C does not reach.
                pool.shutdown(wait=False, cancel_futures=True)
                _end_children()
                raise

    def _build(self, subset: Subset) -> Built | str:
        self._count += 1
        self.on_start(subset, self._count)
        try:
            return self.workspaces.build(frozenset(self.positions[item] for item in subset), f"rerun-{self._count}")
        except InputError as error:
            return str(error)

    def _run(self, subset: Subset, built: Built | str, steps: int | None) -> Measurement:
        if isinstance(built, str):
            return Measurement(subset=subset, value=None, crashed=True, reason=built)
        output = built.folder.with_suffix(".output")
        cores = len(os.sched_getaffinity(0))
        try:
            outcome = watch(
                WatchRequest(
                    command=built.command,
                    cwd=built.folder,
                    folder=built.folder.with_suffix(".records"),
                    env={"OMP_NUM_THREADS": str(max(1, cores // self.how.parallel)), **built.env},
                    monitoring=self.how.monitoring,
                    checks=False,
                    keep_records=True,
                    replay_key=REPLAY_KEY,
                    stop_after=steps,
                    timeout_seconds=self.how.timeout_seconds,
                    output=output,
                )
            )
        except CommandNotFoundError as error:
            return Measurement(subset=subset, value=None, crashed=True, reason=error.message)
        self.seconds.append(outcome.seconds)
        measurement = self._measurement(subset, outcome, output)
        shutil.rmtree(built.folder, ignore_errors=True)  # only space is lost; the scratch folder goes at the end
        return measurement

    def _measurement(self, subset: Subset, outcome: WatchOutcome, output: Path) -> Measurement:
        value = outcome.metrics.get(self.how.metric)
        failed = outcome.exit_code != 0 or outcome.timed_out
        usable = value is not None and math.isfinite(value) and not failed
        return Measurement(
            subset=subset,
            value=value if usable else None,
            crashed=failed,
            fingerprints=tuple(record.fingerprint or "" for record in outcome.records if record.rank == 0),
            seconds=outcome.seconds,
            metrics=dict(outcome.metrics),
            reason=None if usable else self._reason(outcome, output),
        )

    def _reason(self, outcome: WatchOutcome, output: Path) -> str:
        if outcome.timed_out:
            return f"it took longer than {self.how.timeout_seconds:.0f} s"
        if outcome.exit_code == 0:
            return f"it reported no finite {self.how.metric}"
        tail = output.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace").strip().splitlines() if output.is_file() else []
        return f"exit code {outcome.exit_code}" + (f": {tail[-1][:200]}" if tail else "")


def _end_children() -> None:
    """Ask every process that this one has started, and what those started in their groups, to end."""
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # a thread or process that has ended meanwhile
            for child in Path(f"/proc/self/task/{task}/children").read_text().split():
                if os.getpgid(int(child)) == int(child):
                    os.killpg(int(child), signal.SIGTERM)


def cores_for(parallel: int | None) -> int:
    """How many reruns at a time: as asked, else two where there are two cores."""
    cores = len(os.sched_getaffinity(0))
    return max(1, parallel if parallel is not None else min(2, cores))
