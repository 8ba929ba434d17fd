"""Coverage: each pass over a data loader gives exactly the indices that its sampler is to give, and in that order.

Counts every index of a pass and compares with what the sampler's class promises: all once, in order, or a number of draws.
Where the order can be recomputed from the state of the random number generator, any departure shows at once. A sampler of
the program's own promises nothing, so it is not judged here. Cannot see what the data set returns for an index.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.loading import Departure, Indices, LoaderSeen, PassSeen, ShareSeen

RULE = Rule(
    id="batch-coverage",
    summary="a data loader gave other samples than its sampler is to give, or in another order",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0020",
)
MAX_ITEMS = 50_000_000
MAX_NAMED = 64
SHOWN = 10


class Coverage:
    """Follows one pass; memory is two bytes for each item of the data set."""

    def __init__(self, seen: PassSeen) -> None:
        self.seen = seen
        self.given = 0
        self.ascents = 0
        self.outside = False
        self._last: int | None = None
        items = seen.items
        self.counts: NDArray[np.uint16] | None = (
            np.zeros(items, np.uint16) if items is not None and 0 < items <= MAX_ITEMS else None
        )

    @property
    def ascending(self) -> bool:
        """Whether every index so far was larger than the one before it."""
        return self.given > 1 and self.ascents == self.given - 1

    @property
    def covered(self) -> int | None:
        """How many different indices came, None where they are not counted."""
        return int(np.count_nonzero(self.counts)) if self.counts is not None else None

    def add(self, indices: Indices, step: int) -> tuple[Finding, ...]:
        """The next *indices*, given before or at *step*; findings for those that cannot be right whatever follows."""
        if not len(indices):
            return ()
        before = indices[0] - 1 if self._last is None else self._last
        self.ascents += int((np.diff(indices, prepend=before) > 0).sum()) - (self._last is None)
        self._last = int(indices[-1])
        self.given += len(indices)
        if self.counts is None:
            return ()
        inside = indices[(indices >= 0) & (indices < len(self.counts))]
        found = self._check_inside(indices, step) if len(inside) < len(indices) else ()
        np.add.at(self.counts, inside, 1)
        return found + self._check_repeated(np.unique(inside), step)

    def end(self, step: int, *, complete: bool) -> tuple[Finding, ...]:
        """The pass is over; only one that the sampler itself ended (*complete*) has to have given everything."""
        seen = self.seen
        if not complete or seen.rule == "unknown" or seen.samples is None:
            return ()
        left_over = seen.samples % seen.batch_size if seen.drop_last and seen.batch_size else 0
        promised = seen.samples - left_over
        if self.counts is not None and seen.rule in ("in order", "each once"):
            short = np.flatnonzero(self.counts < seen.samples // len(self.counts))
            if len(short) > left_over:
                return (self._dropped(short, promised, left_over, step),)
        if self.given == promised:
            return ()
        return (
            self._finding(
                "number",
                f"gave {self.given} indices where its {seen.sampler} is to give {promised}",
                step,
                evidence={"expected": promised, "observed": self.given},
            ),
        )

    def check_order(self, departure: Departure, step: int) -> tuple[Finding, ...]:
        """A finding for the first place where the indices are not those that the sampler makes of its generator's state."""
        return (
            self._finding(
                "order",
                f"departs from the order of its {self.seen.sampler} at index no. {departure.at + 1} of the pass: "
                f"{_listed(departure.given)} came where {_listed(departure.expected)} had to come",
                step,
                evidence={"position": departure.at, "expected": departure.expected, "observed": departure.given},
                rows=departure.given,
            ),
        )

    def _check_inside(self, indices: Indices, step: int) -> tuple[Finding, ...]:
        if self.outside or self.seen.rule == "unknown":
            return ()
        self.outside = True
        assert self.counts is not None
        wrong = indices[(indices < 0) | (indices >= len(self.counts))]
        words = f"gave indices that its data set of {len(self.counts)} items does not have: {_listed(wrong)}"
        return (self._finding("range", words, step, rows=wrong),)

    def _check_repeated(self, fresh: Indices, step: int) -> tuple[Finding, ...]:
        seen = self.seen
        if seen.rule not in ("in order", "each once") or seen.samples is None or self.counts is None:
            return ()
        allowed = -(-seen.samples // len(self.counts))
        wrong = fresh[self.counts[fresh] > allowed]
        if not len(wrong):
            return ()
        words = (
            f"gave indices {'more than once' if allowed == 1 else f'more than {allowed} times'} in one pass, "
            f"which its {seen.sampler} never does: {_listed(wrong)}"
        )
        return (self._finding("repeated", words, step, evidence={"repeated": len(wrong)}, rows=wrong),)

    def _dropped(self, short: Indices, promised: int, left_over: int, step: int) -> Finding:
        assert self.counts is not None
        share = (len(short) - left_over) / len(self.counts)
        return self._finding(
            "dropped",
            f"left out {len(short)} of {len(self.counts)} indices"
            f"{f' ({left_over} may be, by drop_last)' if left_over else ''}: {_listed(short)}",
            step,
            evidence={"dropped": len(short), "allowed": left_over, "share": share, "expected": promised, "observed": self.given},
            rows=short,
        )

    def _finding(
        self, term: str, words: str, step: int, *, evidence: dict[str, object] | None = None, rows: Indices | tuple[int, ...] = ()
    ) -> Finding:
        seen = self.seen
        return RULE.finding(
            Subject(kind="run", name=seen.loader.title, key=term),
            f"The {seen.loader.title} {words} (pass {seen.epoch}, up to step {step}).",
            evidence={"term": term, "pass": seen.epoch, "sampler": seen.sampler, **(evidence or {})},
            location=Location(step=step, rank=seen.loader.rank, rows=tuple(int(row) for row in rows[:MAX_NAMED])),
            remedy="look at what replaces or wraps the sampler, and at torch/utils/data in the environment (truerun check)",
        )


def check_unindexed(loader: LoaderSeen) -> tuple[Finding, ...]:
    """A note that an iterable data set has no indices to follow."""
    return (
        RULE.finding(
            Subject(kind="run", name=loader.title, key="unindexed"),
            f"Could not tell whether the {loader.title} gives every sample once: an iterable data set has no indices. "
            "Updates, losses and collate functions are watched all the same.",
            location=Location(rank=loader.rank),
            severity=Severity.NOTE,
        ),
    )


def check_same_epoch(seen: PassSeen, before: ShareSeen, now: ShareSeen, step: int) -> tuple[Finding, ...]:
    """A warning where a second pass of training was shuffled as the one before, because nobody called set_epoch."""
    if not now.shuffled or (before.epoch, before.seed) != (now.epoch, now.seed):
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name=seen.loader.title, key="epoch"),
            f"Pass {seen.epoch} of the {seen.loader.title} has the same order as the one before: its {seen.sampler} was told "
            f"epoch {now.epoch} for both.",
            evidence={"term": "epoch", "epoch": now.epoch, "pass": seen.epoch},
            location=Location(step=step, rank=seen.loader.rank),
            severity=Severity.WARNING,
            confidence=Confidence.HIGH,
            remedy="call sampler.set_epoch(epoch) before each pass",
        ),
    )


def check_shares(seen: PassSeen, one: ShareSeen, other: ShareSeen, step: int) -> tuple[Finding, ...]:
    """A finding where two ranks shuffle by different seeds, so that their shares overlap and leave gaps."""
    alike = (one.replicas, one.epoch) == (other.replicas, other.epoch) and one.shuffled and other.shuffled
    if not alike or one.rank == other.rank or one.seed == other.seed:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name=seen.loader.title, key="shares"),
            f"Shares {one.rank} and {other.rank} of the {seen.loader.title} are shuffled by different seeds, {one.seed} and "
            f"{other.seed}: some samples are given to two ranks and others to none.",
            evidence={"term": "shares", "seeds": [one.seed, other.seed]},
            location=Location(step=step, rank=seen.loader.rank),
            remedy="give every rank's DistributedSampler the same seed",
        ),
    )


def _listed(rows: Indices | tuple[int, ...]) -> str:
    shown = ", ".join(str(int(row)) for row in rows[:SHOWN])
    return shown + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "") if len(rows) else "nothing"
