"""Rule `outputs-regressed`: outputs are worse than the reference's, overall or in a class or group that the average hides.

Compares recall by class and accuracy by group on the same examples where they can be matched. An error needs the whole
interval of the fall beyond the declared tolerance, and to stand among all slices looked at (false discovery rate 5 %).
It knows right from wrong only by the labels: where those were changed too, it sees nothing.
"""

from __future__ import annotations

from truerun.core.declaration import OutputsSection
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.outputs.comparison import Shift, compare, is_paired
from truerun.inspection.outputs.counts import OutputCounts
from truerun.inspection.outputs.intervals import chance_within, false_discovery

RULE = Rule(
    id="outputs-regressed",
    summary="outputs are worse than the reference run's, overall or in a class or group",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0031",
)
FALSE_SHARE = 0.05
MAX_FINDINGS = 12
_SHOWN_ROWS = 20


def check_regressed(current: OutputCounts, reference: OutputCounts | None, section: OutputsSection) -> tuple[Finding, ...]:
    """Findings for every slice that got worse beyond the tolerance, worst first; one note for what could not be told."""
    blind = explain_blind(current, reference, section)
    if reference is None or blind is not None:
        return (note(RULE, section, blind or ""),)
    shifts = compare(current, reference)
    chances = {s.slice: chance_within(lambda z, s=s: s.change.interval(z)[0], section.tolerance) for s in shifts}  # type: ignore[misc]
    adjusted = false_discovery(chances)
    worse = [s for s in shifts if s.change.interval()[0] > section.tolerance and adjusted[s.slice] <= FALSE_SHARE]
    unclear = [s for s in shifts if s not in worse and s.change.fall > section.tolerance]
    worse.sort(key=lambda s: (s.slice.column is not None, -s.change.fall))
    findings = [_finding(s, current, reference, section) for s in worse[:MAX_FINDINGS]]
    remarks = [_unclear(unclear)] if unclear else []
    remarks += [f"{len(worse) - MAX_FINDINGS} more slices are worse too"] if len(worse) > MAX_FINDINGS else []
    remarks += [gone] if (gone := _gone(current, reference)) else []
    return (*findings, *((note(RULE, section, "; ".join(remarks)),) if remarks else ()))


def explain_blind(current: OutputCounts, reference: OutputCounts | None, section: OutputsSection) -> str | None:
    """Why nothing can be told, in words; None where the comparison can be made."""
    if reference is None:
        return "there are no outputs of a reference run to compare with; name one with --against, or approve a run's lock first"
    for outputs in (current, reference):
        if section.label in outputs.missing or (outputs.missing and not outputs.examples):
            return f"{section.predictions} of {outputs.name} lacks the declared column {', '.join(outputs.missing)}"
        if not outputs.examples:
            return f"{section.predictions} of {outputs.name} has no row with both a label and a prediction"
    return None


def note(rule: Rule, section: OutputsSection, message: str) -> Finding:
    """What *rule* could not tell, and why."""
    return rule.finding(
        Subject(kind="outputs", name=section.predictions),
        f"could not tell: {message}" if message else "could not tell",
        severity=Severity.NOTE,
        confidence=Confidence.CERTAIN,
    )


def _finding(shift: Shift, current: OutputCounts, reference: OutputCounts, section: OutputsSection) -> Finding:
    change = shift.change
    low, high = change.interval()
    before, now = change.before / change.total_before, change.now / change.total_now
    same = "the same" if is_paired(current, reference) else "not the same"
    message = (
        f"{shift.slice.words} is {now:.3f}; it was {before:.3f} in {reference.name}. It fell by {change.fall:.3f} "
        f"(95 % interval {low:.3f} to {high:.3f}) on {change.total_now} examples, {same} as before; {section.tolerance:g} is tolerated."
    )
    evidence = {
        "measure": shift.slice.measure,
        "before": before,
        "now": now,
        "fall": change.fall,
        "interval": [low, high],
        "examples_before": change.total_before,
        "examples_now": change.total_now,
        "negative_flips": len(shift.flipped) if same == "the same" else None,
        "reference": reference.name,
    }
    return RULE.finding(
        Subject(kind="outputs", name=section.predictions, key=shift.slice.key),
        message,
        evidence=evidence,
        location=Location(path=section.predictions, rows=shift.flipped[:_SHOWN_ROWS] or None),
        remedy="truerun trace RUN finds the change that did it; look at the rows named here first",
    )


def _unclear(shifts: list[Shift]) -> str:
    worst = sorted(shifts, key=lambda s: -s.change.fall)[:5]
    texts = [f"{s.slice.words} fell by {s.change.fall:.3f} on {s.change.total_now} examples" for s in worst]
    more = f", and {len(shifts) - 5} more" if len(shifts) > 5 else ""
    return f"there are too few examples to say whether these lie beyond the tolerance: {'; '.join(texts)}{more}"


def _gone(current: OutputCounts, reference: OutputCounts) -> str | None:
    pairs = [(current.labels, reference.labels)]
    pairs += [(group, other) for group in current.groups for other in reference.groups if group.name == other.name]
    gone = [f"{now.name} {value}" for now, before in pairs for value in before.values if value not in now.values]
    if not gone:
        return None
    return (
        f"{reference.name} had examples of {', '.join(gone[:8])} and this run has none: the evaluation examples are not the same"
    )
