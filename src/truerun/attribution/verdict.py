"""From reruns to words: the Attribution that `truerun trace` shows and records, with the evidence for every suspect.

States what was not tried. Speaks of changes; who made one comes with it from the ledger, and never counts as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from truerun.attribution.candidates import Candidate, Lever
from truerun.attribution.convict import Conviction, Ending
from truerun.attribution.hypotheses import Shape
from truerun.attribution.laboratory import Measurement, Subset, first_difference
from truerun.attribution.replay import Replayed
from truerun.core.attribution import Attribution, AttributionVerdict, RowSuspect, SourceSuspect, Suspect

MOST_CERTAIN = 0.9999  # a finite number of reruns makes nothing certain
ELIMINATED = 0.8  # what is left when nothing else differs may still be something that was never recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What was asked: the runs by id, the metric by name with its goal, tolerance and recorded values."""

    run: str
    against: str
    metric: str
    goal: str
    tolerance: float
    recorded_reference: float | None
    recorded_run: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was tried: `tried` maps the positions of the search to positions among the candidates; `metric` its name."""

    candidates: tuple[Candidate, ...]
    tried: tuple[int, ...]
    metric: str
    replayed: Replayed | None = None


def attribute(
    case: Case,
    trial: Trial,
    conviction: Conviction,
    *,
    sources: Sequence[SourceSuspect] = (),
    rows: Sequence[RowSuspect] = (),
) -> Attribution:
    """The answer."""
    candidates, tried, replayed = trial.candidates, trial.tried, trial.replayed
    suspects = _suspects(trial, conviction)
    if conviction.ending is Ending.REFERENCE_LOST:
        suspects = _by_elimination(candidates)
    convicted = [tried[member] for member in conviction.members] if _is_convicted(conviction) else []
    return Attribution(
        verdict=_verdict(conviction),
        run=case.run,
        against=case.against,
        metric=_metric(case, conviction),
        onset=_onset(candidates, convicted, conviction, replayed),
        suspects=suspects,
        sources=tuple(sources),
        rows=tuple(rows),
        runs_used=len(conviction.reruns),
        replay_steps_used=replayed.steps_used if replayed else 0,
        notes=(*case.notes, *_notes(candidates, tried, conviction, replayed)),
    )


def _is_convicted(conviction: Conviction) -> bool:
    return conviction.ending is Ending.DECIDED and bool(conviction.members)


def _verdict(conviction: Conviction) -> AttributionVerdict:
    if conviction.ending is Ending.NO_DEGRADATION:
        return AttributionVerdict.NO_DEGRADATION
    return AttributionVerdict.ATTRIBUTED if _is_convicted(conviction) else AttributionVerdict.CANNOT_TELL


def _metric(case: Case, conviction: Conviction) -> Mapping[str, Any]:
    return {
        "name": case.metric,
        "goal": case.goal,
        "tolerance": case.tolerance,
        "reference": case.recorded_reference,
        "run": case.recorded_run,
        "reference_rerun": _rounded(conviction.level),
        "run_rerun": _rounded(_whole(conviction)),
    }


def _whole(conviction: Conviction) -> float | None:
    return conviction.value_of(frozenset(range(len(conviction.probability))))


def _suspects(trial: Trial, conviction: Conviction) -> tuple[Suspect, ...]:
    found = []
    for position, index in enumerate(trial.tried):
        candidate = trial.candidates[index]
        evidence = _evidence(position, trial, conviction)
        found.append(
            Suspect(
                change=candidate.change,
                probability=round(min(conviction.probability[position], MOST_CERTAIN), 4),
                lock_entry=candidate.entry,
                effect=_effect(position, conviction),
                evidence=tuple(evidence),
            )
        )
    return tuple(sorted(found, key=lambda suspect: -suspect.probability))


def _by_elimination(candidates: Sequence[Candidate]) -> tuple[Suspect, ...]:
    """The reference's own files no longer reach its metric here: what is left is what a rerun cannot rebuild."""
    left = [candidate for candidate in candidates if candidate.lever is Lever.CANNOT]
    fact = {"what": "by elimination", "text": "the reference's own files no longer give its metric; this was not rebuilt"}
    return tuple(
        Suspect(
            change=candidate.change,
            probability=round(ELIMINATED / len(left), 4),
            lock_entry=candidate.entry,
            evidence=(fact,),
        )
        for candidate in left
    )


def _evidence(position: int, trial: Trial, conviction: Conviction) -> list[Mapping[str, Any]]:
    facts: list[Mapping[str, Any]] = []
    replayed = trial.replayed
    alone = conviction.rerun_of(frozenset({position}))
    if alone is not None:
        facts.append(_fact("alone on the reference", trial.metric, alone, conviction))
    if position in conviction.members:
        facts += _shared_evidence(position, trial, conviction)
    step = _first_step(position, conviction, replayed)
    if step is not None:
        text = f"alters the computation from step {step} on"
        facts.append({"what": "first step that differs", "step": step, "text": text})
    elif replayed is not None and position in replayed.inert:
        facts.append({"what": "no difference in the replayed steps", "text": "alters nothing in the replayed steps"})
    return facts


def _shared_evidence(position: int, trial: Trial, conviction: Conviction) -> list[Mapping[str, Any]]:
    members = frozenset(conviction.members)
    facts: list[Mapping[str, Any]] = []
    together = conviction.rerun_of(members) if conviction.shape in (Shape.TOGETHER, Shape.WORSENS) else None
    if together is not None:
        others = [trial.candidates[trial.tried[member]].change.title() for member in sorted(members - {position})]
        what = "only together" if conviction.shape is Shape.TOGETHER else "worse together"
        fact = _fact(f"{what} with {', '.join(others)}", trial.metric, together, conviction)
        facts.append({**fact, "what": what, "with": others})
    rest = conviction.rerun_of(frozenset(range(len(conviction.probability))) - members)
    if rest is not None:
        facts.append(_fact("everything but the suspects", trial.metric, rest, conviction))
    with_it = sum(position in rerun.subset for rerun in conviction.reruns)
    without = len(conviction.reruns) - with_it
    facts.append({"what": "reruns", "with": with_it, "without": without, "text": f"in {with_it} reruns, not in {without}"})
    return facts


def _fact(what: str, metric: str, rerun: Measurement, conviction: Conviction) -> dict[str, Any]:
    """What a rerun showed, as numbers and in words."""
    reference = _rounded(conviction.level)
    if rerun.value is None:
        text = f"{what}: the rerun ended without {metric} ({rerun.reason or 'no reason given'})"
        return {"what": what, "value": None, "crashed": rerun.crashed, "reference": reference, "text": text}
    text = f"{what}: {metric} {rerun.value:.4g}, {conviction.level:.4g} without any change"
    return {"what": what, "value": _rounded(rerun.value), "reference": reference, "text": text}


def _effect(position: int, conviction: Conviction) -> float | None:
    """How the metric moves with this change alone on the reference; for a pair that acts only together, with the pair."""
    if conviction.level is None:
        return None
    subset: Subset = frozenset({position})
    if position in conviction.members and conviction.shape is Shape.TOGETHER:
        subset = frozenset(conviction.members)
    value = conviction.value_of(subset)
    return None if value is None else _rounded(value - conviction.level)


def _first_step(position: int, conviction: Conviction, replayed: Replayed | None) -> int | None:
    if replayed is not None and position in replayed.first_step:
        return replayed.first_step[position]
    reference, alone = conviction.rerun_of(frozenset()), conviction.rerun_of(frozenset({position}))
    if reference is None or alone is None or not reference.fingerprints or not alone.fingerprints:
        return None
    return first_difference(reference.fingerprints, alone.fingerprints)


def _onset(
    candidates: Sequence[Candidate], convicted: Sequence[int], conviction: Conviction, replayed: Replayed | None
) -> Mapping[str, Any] | None:
    if not convicted:
        return None
    entries = [entry for entry in (candidates[index].entry for index in convicted) if entry is not None]
    steps = [_first_step(member, conviction, replayed) for member in conviction.members]
    known = [step for step in steps if step is not None]
    return {"entry": min(entries, default=None), "step": min(known, default=None)}


def _notes(candidates: Sequence[Candidate], tried: Sequence[int], conviction: Conviction, replayed: Replayed | None) -> list[str]:
    notes = [_ENDINGS[conviction.ending]] if conviction.ending in _ENDINGS else []
    cannot = [candidate for candidate in candidates if candidate.lever is Lever.CANNOT]
    if cannot:
        names = ", ".join(candidate.change.title() for candidate in cannot[:5])
        notes.append(f"not tried, {len(cannot)} that a rerun cannot rebuild: {names}; every rerun used what is installed now")
    inert = sum(candidate.lever is Lever.INERT for candidate in candidates)
    if inert:
        notes.append(f"{inert} changes cannot alter the training (formatting, or read by Truerun alone) and were not tried")
    failed = [rerun for rerun in conviction.reruns if rerun.value is None]
    if failed:
        notes.append(
            f"{len(failed)} of {len(conviction.reruns)} reruns ended without the metric ({failed[0].reason or 'unknown'})"
        )
    if replayed is not None and not replayed.deterministic:
        notes.append("two replays of the reference differ bit for bit: the job does not repeat itself, so replay says nothing")
    if conviction.ending is Ending.BUDGET:
        open_ones = sum(0.03 < probability < 0.97 for probability in conviction.probability)
        notes.append(f"{open_ones} of {len(tried)} changes were not singled out; a larger --budget decides more")
    return notes


_ENDINGS = {
    Ending.NOT_REPRODUCED: "with all recorded changes applied the metric is as good as the reference's: what made the run worse "
    "is not in the recorded inputs (a live process, hardware, another environment, or chance)",
    Ending.REFERENCE_LOST: "the reference's own inputs no longer reach its metric here: what differs is not in files that can "
    "be rebuilt (installed packages, hardware, services)",
    Ending.REFERENCE_FAILS: "the reference does not run here any more, so nothing can be compared with it",
    Ending.EXHAUSTED: "there was no further subset to try",
}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)
