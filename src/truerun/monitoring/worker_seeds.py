"""Seeds of a loader's workers: each begins with random numbers of its own, and with others in each pass.

Two workers that begin with the same state of a generator, and have the same state again after a batch for which they drew from
it, augment alike: the run sees half of the variety it was to see. What merely begins alike and then differs may be seeded
anew for each item. Source: the NumPy seeding error of PyTorch's loaders (stackoverflow 67180955; torch itself seeds NumPy in
its workers since 1.9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="worker-seeds",
    summary="workers of a data loader draw the same random numbers, or the same ones in each pass",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSeen:
    """One worker process: digests of the states of its generators when it began, and after its first batch."""

    worker: int
    begun: Mapping[str, str]
    after: Mapping[str, str]

    def used(self, generator: str) -> bool:
        """Whether its first batch drew from *generator*."""
        return self.begun.get(generator) != self.after.get(generator)


def check_workers(workers: Sequence[WorkerSeen], loader: str, rank: int, step: int) -> tuple[Finding, ...]:
    """A finding for each generator that two of the *workers* of one pass share and draw from."""
    found = []
    for generator in sorted({name for worker in workers for name in worker.begun}):
        alike = _alike([worker for worker in workers if worker.used(generator) and generator in worker.begun], generator)
        if not alike:
            continue
        numbers = ", ".join(str(worker) for worker in alike)
        found.append(
            RULE.finding(
                Subject(kind="run", name=loader, key=generator),
                f"Workers {numbers} of the {loader} draw the same random numbers from the generator {generator}: they began with "
                "the same state and had the same one after their first batch. What they augment, they augment alike.",
                evidence={"term": "workers", "workers": alike, "generator": generator},
                location=Location(step=step, rank=rank),
                remedy="seed by torch.initial_seed() in worker_init_fn, which differs between workers and passes; "
                "make a data set's own generator in the worker, not before",
            )
        )
    return tuple(found)


def check_passes(
    before: Sequence[WorkerSeen], now: Sequence[WorkerSeen], loader: str, rank: int, step: int
) -> tuple[Finding, ...]:
    """A warning where every worker begins two passes of training with the same state of a generator it draws from."""
    earlier = {worker.worker: worker for worker in before}
    pairs = [(earlier[worker.worker], worker) for worker in now if worker.worker in earlier]
    found = []
    for generator in sorted({name for worker in now for name in worker.begun}):
        same = [_states(old, generator) == _states(new, generator) and new.used(generator) for old, new in pairs]
        if same and all(same):
            found.append(
                RULE.finding(
                    Subject(kind="run", name=loader, key=f"{generator}, passes"),
                    f"The workers of the {loader} begin each pass with the same state of the generator {generator} and draw from it: "
                    "what they augment, they augment in the same way in every pass.",
                    evidence={"term": "passes", "generator": generator},
                    location=Location(step=step, rank=rank),
                    severity=Severity.WARNING,
                    confidence=Confidence.HIGH,
                    remedy="seed by torch.initial_seed() in worker_init_fn; if this is meant, nothing has to be done",
                )
            )
    return tuple(found)


def _alike(workers: Sequence[WorkerSeen], generator: str) -> list[int]:
    """The first group of workers that share both states of *generator*."""
    groups: dict[tuple[str | None, str | None], list[int]] = {}
    for worker in workers:
        groups.setdefault(_states(worker, generator), []).append(worker.worker)
    return next((sorted(group) for group in groups.values() if len(group) > 1), [])


def _states(worker: WorkerSeen, generator: str) -> tuple[str | None, str | None]:
    return worker.begun.get(generator), worker.after.get(generator)
