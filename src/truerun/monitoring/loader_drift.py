"""A data loader is set up and behaves as in the approved run: data set, length, sampler, order, batch size, what a pass covers.

For what no class of torch's promises (a sampler of the program's own, a data set that filters) the approved run is the only
measure. How much a difference weighs depends on what else changed: nothing at all, configuration and data, or the program.
Loaders are matched by their place among those that train, and among those that do not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.loading import LoaderSeen
from truerun.monitoring.reference import Reference

RULE = Rule(
    id="loader-drift",
    summary="a data loader is not set up, or does not behave, as in the approved run",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0020",
)
WORDS = {
    "dataset": "the class of its data set",
    "items": "the length of its data set",
    "sampler": "the class of its sampler",
    "batch_sampler": "the class of its batch sampler",
    "batch_size": "its batch size",
    "drop_last": "drop_last",
    "ordered": "whether it gives the samples in their order",
    "covered": "the number of different samples in a pass",
    "given": "the number of samples in a pass",
}
# What a configuration often sets by itself.
SETTINGS = frozenset({"batch_size", "drop_last", "items", "covered", "given"})
COUNTS = frozenset({"items", "covered", "given"})
CLOSE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """
    What a loader shows of itself. None is what was not seen (yet), and is not compared.

    `ordered`: every index was larger than the one before; `covered` and `given`: different samples, and samples, in a
    whole pass.
    """

    dataset: str | None = None
    items: int | None = None
    sampler: str | None = None
    batch_sampler: str | None = None
    batch_size: int | None = None
    drop_last: bool | None = None
    ordered: bool | None = None
    covered: int | None = None
    given: int | None = None


def parse_habits(found: Mapping[str, object]) -> Habits:
    """Habits from what an earlier run recorded; what is of another kind counts as not seen."""
    known = {field.name: found.get(field.name) for field in fields(Habits)}
    texts = {name: value for name, value in known.items() if isinstance(value, str) and name in _TEXTS}
    flags = {name: value for name, value in known.items() if isinstance(value, bool) and name in _FLAGS}
    numbers = {name: value for name, value in known.items() if type(value) is int and name not in _TEXTS | _FLAGS}
    return Habits(**texts, **flags, **numbers)  # type: ignore[arg-type]


def check_habits(
    now: Habits,
    before: Habits,
    fresh: Collection[str],
    *,
    loader: LoaderSeen,
    reference: Reference,
    growth: float,
    step: int,
    resumed: bool,
) -> tuple[Finding, ...]:
    """
    One finding for each of the *fresh* habits that is not as it was *before*.

    *growth* is by how much the declared data has grown since (1.0: not at all); lengths that grew alike are as they were.
    A *resumed* run loaded a checkpoint before its first step, which the approved one had not done: it may have to begin in
    the middle of a pass.
    """
    found = []
    for name in fresh:
        was, here = getattr(before, name), getattr(now, name)
        if was is None or here is None or was == here or (name in COUNTS and _explained(now, before, name, growth)):
            continue
        severity, confidence = (Severity.NOTE, Confidence.LOW) if resumed else _weight(name, reference)
        found.append(
            RULE.finding(
                Subject(kind="run", name=loader.title, key=name),
                f"The {loader.title}: {WORDS[name]} was {was} in {reference.learned_from or 'the approved run'} and is {here} now"
                f"{'; a checkpoint was loaded before the first step' if resumed else _cause(reference)}.",
                evidence={"expected": was, "observed": here},
                location=Location(step=step, rank=loader.rank),
                severity=severity,
                confidence=confidence,
                remedy="find what sets up the loader otherwise; if it is meant, approve the change that does it",
            )
        )
    return tuple(found)


def _weight(name: str, reference: Reference) -> tuple[Severity, Confidence]:
    if reference.same_lock:
        return Severity.ERROR, Confidence.HIGH
    if reference.same_program and name not in SETTINGS:
        return Severity.WARNING, Confidence.MEDIUM
    return Severity.NOTE, Confidence.LOW


def _cause(reference: Reference) -> str:
    if reference.same_lock:
        return "; code, configuration, data and environment are the same"
    return "; only configuration or data have changed" if reference.same_program else "; the program has changed since"


def _explained(now: Habits, before: Habits, name: str, growth: float) -> bool:
    """Whether another number is only what other data, chance or a shorter data set (a finding of its own) makes of it."""
    was, here = getattr(before, name), getattr(now, name)
    if growth != 1.0 and abs(here / max(1, was) / growth - 1) <= CLOSE:
        return True
    if name == "items":
        return False
    if abs(here - was) <= CLOSE * was or (name == "covered" and before.covered != before.given):
        return True
    if now.items is None or not before.items or now.items == before.items:
        return False
    return bool(abs(here / max(1, now.items) - was / before.items) <= CLOSE)


_TEXTS = frozenset({"dataset", "sampler", "batch_sampler"})
_FLAGS = frozenset({"drop_last", "ordered"})
