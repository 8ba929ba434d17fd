"""An incident from evidence: what happened in three sentences, who can say more, the timeline, how far the way back was gone.

A pure function of what is recorded. It speaks of changes and evidence, never of intent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from truerun.core.attribution import AttributionVerdict, Suspect
from truerun.core.decision import Answer
from truerun.core.digest import Digest
from truerun.core.fact import LockProposed
from truerun.core.incident import Gap, Incident, Recovered, TimelineEvent, Voice
from truerun.ledger.describe import describe_fact
from truerun.ledger.history import Recorded, RunHistory
from truerun.response.evidence import Evidence
from truerun.response.gap import find_gaps
from truerun.response.impact import measure_impact


def build_incident(evidence: Evidence) -> Incident:
    """Everything a report shows about *evidence*."""
    gaps = find_gaps(evidence)
    metric = _metric(evidence)
    recovered = _recovered(evidence, metric)
    return Incident(
        project=evidence.declaration.project.name,
        run=evidence.run.id,
        against=evidence.reference.id if evidence.reference is not None else None,
        summary=(_what_happened(evidence, metric), _what_explains(evidence), _what_follows(evidence, gaps, recovered)),
        findings=evidence.findings,
        attribution=evidence.attribution,
        impact=measure_impact(evidence),
        gaps=gaps,
        timeline=tuple(sorted(_timeline(evidence), key=lambda event: event.entry)),
        metrics=metric,
        curves=evidence.curves,
        outcomes=evidence.outcomes,
        voices=_voices(evidence),
        recovered=recovered,
        anchor=evidence.anchor,
        unknowns=tuple(_unknowns(evidence, metric)),
        headline=_headline(evidence, metric),
    )


def _metric(evidence: Evidence) -> dict[str, Any]:
    """The metric that is judged: name, goal, tolerance, the run's and the reference's last value, and how much worse it is."""
    declared = evidence.declaration.metrics
    values = _values(evidence.run)
    traced = (evidence.attribution.metric or {}).get("name") if evidence.attribution is not None else None
    name = traced if traced in declared else next((item for item in declared if item in values), next(iter(declared), None))
    if name is None:
        return {}
    section = declared[name]
    value, before = values.get(name), _values(evidence.reference).get(name)
    worse = None
    if value is not None and before is not None:
        worse = before - value if section.goal == "max" else value - before
    return {
        "name": name,
        "goal": section.goal,
        "tolerance": section.tolerance,
        "run": value,
        "reference": before,
        "worse_by": worse,
        "beyond_tolerance": worse is not None and worse > section.tolerance,
    }


def _values(run: RunHistory | None) -> Mapping[str, float]:
    return run.finished.fact.metrics if run is not None and run.finished is not None else {}


def _headline(evidence: Evidence, metric: Mapping[str, Any]) -> str:
    found = len(evidence.convicted())
    if not metric.get("beyond_tolerance"):
        return f"Run {evidence.run.id}: no degradation beyond tolerance is recorded"
    loss = f"{metric['worse_by']:.3g} of {metric['name']}"
    if found:
        return f"{_count_words(found)} {'change' if found == 1 else 'changes'} cost run {evidence.run.id} {loss}"
    return f"Run {evidence.run.id} lost {loss}; which change did it is not known"


def _what_happened(evidence: Evidence, metric: Mapping[str, Any]) -> str:
    run, reference = evidence.run, evidence.reference
    if run.finished is None:
        return f"Run {run.id} has no recorded end: it is still going on, or it was killed."
    if not metric or metric["run"] is None:
        return (
            f"Run {run.id} ended without a value of a declared metric; its command ended with {run.finished.fact.command_exit}."
        )
    name, value = metric["name"], _shown(metric["run"])
    if reference is None or metric["reference"] is None:
        return f"Run {run.id} ended at {name} {value}, and there is no earlier run to compare it with."
    if not metric["beyond_tolerance"]:
        return f"Run {run.id} ended at {name} {value}, within {_shown(metric['tolerance'])} of run {reference.id} ({_shown(metric['reference'])})."
    return (
        f"Run {run.id} ended at {name} {value}, {metric['worse_by']:.3g} worse than run {reference.id} "
        f"({_shown(metric['reference'])}); a difference of {_shown(metric['tolerance'])} would have been tolerated."
    )


def _what_explains(evidence: Evidence) -> str:
    found, attribution = evidence.convicted(), evidence.attribution
    if attribution is None:
        return f"What changed has not been traced yet: truerun trace {evidence.run.id} does that."
    if attribution.verdict is AttributionVerdict.NO_DEGRADATION:
        return "The trace found no degradation to explain."
    if not found:
        return f"The trace could not tell which of {len(attribution.suspects)} changes explains it."
    total = len(attribution.suspects)
    named = " and ".join(f"{suspect.change.title()} ({_percent(suspect.probability)})" for suspect in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    verb = "explains" if len(found) == 1 else "explain"
    return f"{_count_words(len(found))} of the {total} changes between the two runs {verb} it: {named}{more}."


def _what_follows(evidence: Evidence, gaps: tuple[Gap, ...], recovered: Recovered | None) -> str:
    first = gaps[0] if gaps else None
    let_through = f"It was let through at entry {first.entry} ({first.rule} {first.control.value}); " if first is not None else ""
    if recovered is None:
        rest = f"nothing has been rolled back yet: truerun recover {evidence.run.id} proposes how."
    elif recovered.value is None:
        rest = f"a lock without the convicted changes is recorded in entry {recovered.entry} and has not been rerun yet."
    else:
        state = "back within tolerance" if recovered.within_tolerance else "not back within tolerance"
        rest = f"without the convicted changes run {recovered.run} is {state}, at {_shown(recovered.value)}."
    return let_through + rest if let_through else rest[:1].upper() + rest[1:]


def _recovered(evidence: Evidence, metric: Mapping[str, Any]) -> Recovered | None:
    record = evidence.recovery()
    if record is None:
        return None
    rerun = next(
        (run for run in evidence.history.runs.values() if run.started.fact.lock == record.fact.lock and run.finished is not None),
        None,
    )
    value = _values(rerun).get(metric.get("name", ""))
    within = None
    if value is not None and metric.get("reference") is not None:
        loss = metric["reference"] - value if metric["goal"] == "max" else value - metric["reference"]
        within = loss <= metric["tolerance"]
    return Recovered(
        entry=record.index,
        lock=record.fact.lock.short,
        removed=tuple(change.title() for change in record.fact.removed),
        run=rerun.id if rerun is not None else None,
        value=value,
        within_tolerance=within,
    )


def _timeline(evidence: Evidence) -> Iterator[TimelineEvent]:
    """The entries that matter to the story; the other proposals in between are counted in one line."""
    convicted = {record.index for suspect in evidence.convicted() if (record := evidence.proposal_of(suspect)) is not None}
    locks = {record.fact.lock for record in evidence.history.all_proposals() if record.index in convicted}
    others = [record for record in evidence.between() if record.index not in convicted]
    if others:
        yield _counted(evidence, others)
    for record in _story(evidence, convicted, locks):
        actor = evidence.people.actor(_signer(evidence, record), record.index)
        yield TimelineEvent(entry=record.index, at=record.fact.at, actor=actor.id, what=describe_fact(record.fact))


def _story(evidence: Evidence, convicted: set[int], locks: set[Digest]) -> list[Recorded[Any]]:
    history = evidence.history
    records: list[Recorded[Any]] = [record for record in history.all_proposals() if record.index in convicted]
    records += [record for record in history.decisions if record.fact.lock in locks]
    reference = evidence.reference.id if evidence.reference is not None else None
    for run in history.runs.values():
        shown = run.id == reference or (run.started.index > min(convicted, default=run.started.index))
        if shown:
            records += [record for record in (run.started, run.finished) if record is not None]
    records += [record for record in history.traces if record.fact.attribution.run == evidence.run.id]
    recovery = evidence.recovery()
    if recovery is not None:
        records.append(recovery)
        records += [record for record in history.decisions if record.fact.lock == recovery.fact.lock]
    return sorted(records, key=lambda record: record.index)


def _counted(evidence: Evidence, others: list[Recorded[LockProposed]]) -> TimelineEvent:
    first, last = others[0], others[-1]
    people = {evidence.people.actor(record.key, record.index).id for record in others}
    changes = sum(len(record.fact.changes) for record in others)
    locks = "one other lock" if len(others) == 1 else f"{len(others)} other locks"
    what = f"{locks} proposed with {changes} changes, entries {first.index} to {last.index}"
    return TimelineEvent(entry=first.index, at=first.fact.at, actor=", ".join(sorted(people)), what=what)


def _signer(evidence: Evidence, record: Recorded[Any]) -> str:
    """Whoever answers for the entry: a run's own key is vouched for by the person who started it."""
    run = evidence.history.runs.get(getattr(record.fact, "run", ""))
    return run.started.key if run is not None and record.key == run.started.fact.run_key else record.key


def _voices(evidence: Evidence) -> tuple[Voice, ...]:
    told: dict[str, list[str]] = defaultdict(list)
    for suspect in evidence.convicted():
        record = evidence.proposal_of(suspect)
        if record is None:
            continue
        author = evidence.people.actor(record.key, record.index)
        told[author.id].append(f"proposed {suspect.change.title()} (entry {record.index}){_noted(record.fact.note)}")
        by_hand = suspect.change.actor
        if by_hand is not None and by_hand.id != author.id:
            told[by_hand.id].append(f"made {suspect.change.title()} (known from: {by_hand.basis.value})")
        person = evidence.people.known(author.id)
        if person is not None and person.mentor is not None:
            told[person.mentor].append(f"mentors {author.id}")
        holding = evidence.locks_since(record)
        for decision in evidence.history.decisions:
            if decision.fact.lock in holding and decision.index < evidence.run.started.index:
                verb = "approved" if decision.fact.answer is Answer.APPROVE else "rejected"
                who = evidence.people.actor(decision.key, decision.index).id
                told[who].append(
                    f"{verb} lock {decision.fact.lock.short}, which holds it (entry {decision.index}){_noted(decision.fact.reason)}"
                )
    starter = evidence.people.actor(evidence.run.started.key, evidence.run.started.index)
    told[starter.id].append(f"started run {evidence.run.id} (entry {evidence.run.started.index})")
    return tuple(_voice(evidence, who, tuple(dict.fromkeys(what))) for who, what in told.items())


def _voice(evidence: Evidence, who: str, what: tuple[str, ...]) -> Voice:
    person = evidence.people.known(who)
    if person is None:
        return Voice(id=who, name=None, role=None, mentor=None, can_tell=what)
    return Voice(id=who, name=person.name, role=person.role.value, mentor=person.mentor, can_tell=what)


def _unknowns(evidence: Evidence, metric: Mapping[str, Any]) -> Iterator[str]:
    """What this report cannot say, in words; an honest report has some."""
    attribution = evidence.attribution
    if evidence.reference is None:
        yield "There is no earlier run to compare with, so nothing here says how good it could have been."
    if attribution is None:
        yield "The changes were not traced; nothing here says which of them matters."
    else:
        yield from attribution.notes
        unsure = [suspect for suspect in attribution.suspects if 0.1 <= suspect.probability < 0.9]
        for suspect in unsure:
            yield f"{suspect.change.title()} stays undecided at {_percent(suspect.probability)}."
    if not metric or metric.get("run") is None:
        yield "No declared metric has a value for this run."
    if not evidence.outcomes:
        yield "No table of outputs was found for this run, so who is worse off is not known."
    yield "Signatures say whose key recorded a change; they cannot say who sat at the keyboard, nor why."
    yield "The times are the ones that the authors' machines claimed; only the order of entries is proved."


def _noted(text: str) -> str:
    return f": “{text}”" if text else ""


def _count_words(count: int) -> str:
    words = ("None", "One", "Two", "Three", "Four", "Five", "Six")
    return words[count] if count < len(words) else str(count)


def _percent(probability: float) -> str:
    if probability < 0.005:
        return "<1%"
    return f"{min(probability, 0.999):.1%}" if probability > 0.99 else f"{probability:.0%}"


def _shown(value: float) -> str:
    return f"{value:.4g}"


def probability_words(suspect: Suspect) -> str:
    """The probability of *suspect* as a report shows it: never 100 %, because evidence never is."""
    return _percent(suspect.probability)
