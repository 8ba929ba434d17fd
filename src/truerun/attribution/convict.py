"""The search: rerun subsets of the changes until it is clear which of them make the declared metric worse, then show it.

Pure: reruns come from a Laboratory. It ends when every candidate's probability is at least `convict` or at most `acquit` and
the reruns that show the answer are in (each suspect alone, everything but the suspects), or when the budget is used up.
Where everything but the suspects is still degraded, the rest is searched again.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from truerun.attribution.design import Constraints, choose, confirmations
from truerun.attribution.hypotheses import Shape, Space, enumerate_space
from truerun.attribution.laboratory import Laboratory, Measurement, Subset
from truerun.attribution.posterior import Beliefs, Scale, believe, noise_around

SHARP = 4.0  # reference and run are rerun until their difference is this many standard errors
MOST_REPEATS = 5
WARY_AFTER = 2  # subsets that did not run before only states that really existed are tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    What is asked. `goal` is `max` or `min`; `tolerance` in the metric's unit. `recorded_reference` and `recorded_run` are the
    metric's values of the two runs as recorded. `weights` lower the prior of candidates that replay found inert so far;
    `closed` adds to a subset what its members need to apply. `noise` fixes the standard deviation between reruns where it
    is known, `drift` what one harmless change may shift the metric by (standard deviation). `budget` bounds full reruns.
    """

    count: int
    goal: str
    tolerance: float
    budget: int = 40
    recorded_reference: float | None = None
    recorded_run: float | None = None
    run_crashed: bool = False
    weights: tuple[float, ...] = ()
    closed: Callable[[Subset], Subset] = field(default=lambda subset: subset)
    noise: float | None = None
    drift: float = 0.0
    convict: float = 0.97
    acquit: float = 0.03


class Ending(enum.Enum):
    """Why the search ended."""

    DECIDED = "decided"
    BUDGET = "budget"
    EXHAUSTED = "exhausted"
    NO_DEGRADATION = "no-degradation"
    NOT_REPRODUCED = "not-reproduced"
    REFERENCE_LOST = "reference-lost"
    REFERENCE_FAILS = "reference-fails"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conviction:
    """
    The answer over candidate positions: `probability` each; `shape` of the best explanation; every rerun in order;
    `level` the metric of the reference rerun, `drop` how much worse everything together is (positive is worse).
    """

    ending: Ending
    probability: tuple[float, ...]
    members: tuple[int, ...] = ()
    shape: Shape = Shape.NONE
    reruns: tuple[Measurement, ...] = ()
    level: float | None = None
    drop: float | None = None

    def value_of(self, subset: Subset) -> float | None:
        """The mean metric of the reruns of *subset*, None without one."""
        values = [rerun.value for rerun in self.reruns if rerun.subset == subset and rerun.value is not None]
        return statistics.fmean(values) if values else None

    def rerun_of(self, subset: Subset) -> Measurement | None:
        """The first rerun of *subset*."""
        return next((rerun for rerun in self.reruns if rerun.subset == subset), None)


Progress = Callable[[int, Beliefs | None], None]


def silent(used: int, beliefs: Beliefs | None) -> None:
    """Progress that nobody wants to see."""


def convict(laboratory: Laboratory, question: Question, progress: Progress = silent) -> Conviction:
    """Search; *progress* is told after every round how many reruns are used and what is believed."""
    search = _Search(laboratory, question, progress)
    return search.run()


class _Search:
    """One search: the reruns so far and what follows from them."""

    def __init__(self, laboratory: Laboratory, question: Question, progress: Progress) -> None:
        self.laboratory = laboratory
        self.question = question
        self.progress = progress
        self.reruns: list[Measurement] = []
        self.level = 0.0
        self.noise: float | None = question.noise
        self.everything: Subset = frozenset(range(question.count))
        self.crash_is_harm = question.run_crashed
        self.probability = [0.0] * question.count

    def run(self) -> Conviction:
        """Reference and everything first, then the search."""
        ending = self._begin()
        if ending is not None:
            return self._answer(ending)
        universe, found, shape = tuple(range(self.question.count)), list[int](), Shape.NONE
        while True:
            ending, beliefs = self._narrow(universe)
            members = tuple(universe[position] for position in beliefs.members(beliefs.best))
            for position, probability in enumerate(beliefs.marginals):
                self.probability[universe[position]] = min(1.0, float(probability))
            shape = Shape(int(beliefs.space.shape[beliefs.best])) if not found else Shape.EACH
            found += members
            rest = tuple(item for item in universe if item not in members)
            if ending is Ending.DECIDED and not found:
                return self._answer(self._without_cause())
            more = ending is Ending.DECIDED and members and len(rest) > 0 and self._still_worse(rest)
            if not more or len(rest) == len(universe):
                return self._answer(ending, tuple(found), shape)
            universe = rest

    def _begin(self) -> Ending | None:
        reference, everything = self._measure([frozenset(), self.everything])
        if reference.value is None:
            return Ending.REFERENCE_FAILS
        self.level = reference.value
        if self.noise is None and self._repeat_is_useful(reference):
            self._repeat()
        while self._ends_are_uncertain():
            self._repeat()
        recorded, tolerance = self.question.recorded_reference, self.question.tolerance
        if recorded is not None and self._worse(recorded, self.level) > tolerance + 2 * (self.noise or 0.0):
            return Ending.REFERENCE_LOST
        if everything.value is None:
            self.crash_is_harm = True
            return None
        if self._drop_of_everything() > tolerance:
            return None
        return self._without_cause()

    def _without_cause(self) -> Ending:
        """Reruns with everything applied are as good as the reference; was the recorded run worse all the same?"""
        recorded, run = self.question.recorded_reference, self.question.recorded_run
        was_worse = recorded is not None and run is not None and self._worse(recorded, run) > self.question.tolerance
        return Ending.NOT_REPRODUCED if was_worse or self.question.run_crashed else Ending.NO_DEGRADATION

    def _repeat_is_useful(self, reference: Measurement) -> bool:
        """A rerun that comes close to what was recorded needs no repetition: smaller noise is assumed to be there anyway."""
        recorded, value = self.question.recorded_reference, reference.value
        close = recorded is not None and value is not None and abs(value - recorded) <= self.question.tolerance / 3
        return not close and self.question.budget >= 8

    def _ends_are_uncertain(self) -> bool:
        """Whether noise is so large beside the drop that reference and run are worth another rerun each."""
        reference = self._values(frozenset())
        if not self.noise or len(set(reference)) < len(reference) or len(self.reruns) + 8 > self.question.budget:
            return False
        drop = max(abs(self._drop_of_everything()), self.question.tolerance)
        return len(reference) < min(MOST_REPEATS, math.ceil((SHARP * self.noise / drop) ** 2))

    def _repeat(self) -> None:
        self._measure([frozenset(), self.everything])
        ends = [self._values(frozenset()), self._values(self.everything)]
        self.level = statistics.fmean(ends[0])
        if self.question.noise is None:
            # An identical pair says that the job repeats itself: then there is no noise of this kind.
            spreads = [statistics.stdev(values) for values in ends if len(values) > 1]
            self.noise = statistics.fmean(spreads) if spreads else None

    def _values(self, subset: Subset) -> list[float]:
        return [item.value for item in self.reruns if item.subset == subset and item.value is not None]

    def _narrow(self, universe: tuple[int, ...]) -> tuple[Ending, Beliefs]:
        """Rerun until the candidates in *universe* are decided or nothing more can be asked."""
        space = enumerate_space([self.question.weights[item] if self.question.weights else 1.0 for item in universe])
        while True:
            beliefs = self._believe(space, universe)
            space = beliefs.space  # what has become hopeless is not weighed again
            self.progress(len(self.reruns), beliefs)
            constraints = self._constraints(universe)
            open_confirmations = [s for s in confirmations(beliefs, constraints) if s not in constraints.refused and s]
            decided = self._decided(beliefs)
            if decided and not open_confirmations:
                return Ending.DECIDED, beliefs
            left = self.question.budget - len(self.reruns)
            if left <= 0:
                return (Ending.DECIDED if decided else Ending.BUDGET), beliefs
            many = min(self.laboratory.parallel, left)
            asked = tuple(open_confirmations[:many]) if decided else choose(beliefs, many, constraints, len(self.reruns))
            if not asked:
                return Ending.EXHAUSTED, beliefs
            self._measure([frozenset(universe[position] for position in subset) for subset in asked])

    def _decided(self, beliefs: Beliefs) -> bool:
        low, high = self.question.acquit, self.question.convict
        marginals = beliefs.marginals
        members = beliefs.members(beliefs.best)
        if not members:
            return bool(beliefs.log_posterior[beliefs.best] >= math.log(high))
        others = max((value for position, value in enumerate(marginals) if position not in members), default=0.0)
        return bool(marginals[list(members)].min() >= high and others <= low)

    def _believe(self, space: Space, universe: tuple[int, ...]) -> Beliefs:
        place = {item: position for position, item in enumerate(universe)}
        within = frozenset(universe)
        seen = [rerun for rerun in self.reruns if rerun.subset and rerun.subset <= within and self._counts(rerun)]
        whole = [self._drop(rerun) for rerun in seen if rerun.subset == within]
        drop = max(statistics.fmean(whole) if whole else self._drop_of_everything(), self.question.tolerance)
        scale = Scale(
            tolerance=self.question.tolerance,
            drop=drop,
            noise=self._noise(),
            drift=self.question.drift,
            level_error=1 / math.sqrt(max(1, len(self._values(frozenset())))),
        )
        subsets = [frozenset(place[item] for item in rerun.subset) for rerun in seen]
        return believe(space, subsets, [self._drop(rerun) for rerun in seen], scale)

    def _noise(self) -> tuple[tuple[float, float], ...]:
        if self.question.noise is not None:
            return ((self.question.noise, 1.0),)
        return noise_around(self.question.tolerance, self.noise)

    def _constraints(self, universe: tuple[int, ...]) -> Constraints:
        place = {item: position for position, item in enumerate(universe)}

        def closed(subset: Subset) -> Subset:
            wanted = self.question.closed(frozenset(universe[position] for position in subset))
            return frozenset(place[item] for item in wanted if item in place)

        known = {rerun.subset for rerun in self.reruns}
        refused = {frozenset(place[item] for item in subset) for subset in known if subset <= set(universe)}
        wary = sum(not self._counts(rerun) for rerun in self.reruns) >= WARY_AFTER
        return Constraints(closed=closed, refused=refused, only_prefixes=wary)

    def _measure(self, subsets: Sequence[Subset]) -> tuple[Measurement, ...]:
        result = self.laboratory.measure(subsets)
        self.reruns += result
        return result

    def _counts(self, rerun: Measurement) -> bool:
        """A subset that does not run although everything together does says that parts do not fit, not that they harm."""
        return rerun.value is not None or self.crash_is_harm

    def _drop(self, rerun: Measurement) -> float:
        if rerun.value is None:
            return 10 * self.question.tolerance
        return self._worse(self.level, rerun.value)

    def _drop_of_everything(self) -> float:
        return statistics.fmean(self._drop(rerun) for rerun in self.reruns if rerun.subset == self.everything)

    def _still_worse(self, rest: tuple[int, ...]) -> bool:
        drops = [self._drop(rerun) for rerun in self.reruns if rerun.subset == frozenset(rest) and self._counts(rerun)]
        return bool(drops) and statistics.fmean(drops) > self.question.tolerance + 2 * (self.noise or 0.0)

    def _worse(self, before: float, after: float) -> float:
        return before - after if self.question.goal == "max" else after - before

    def _answer(self, ending: Ending, members: tuple[int, ...] = (), shape: Shape = Shape.NONE) -> Conviction:
        known = any(rerun.subset == self.everything for rerun in self.reruns) and ending is not Ending.REFERENCE_FAILS
        return Conviction(
            ending=ending,
            probability=tuple(self.probability),
            members=members,
            shape=shape,
            reruns=tuple(self.reruns),
            level=self.level if ending is not Ending.REFERENCE_FAILS else None,
            drop=self._drop_of_everything() if known else None,
        )
