"""Rule `outputs-bias`: one class or group lost more than the others did, though the average may look well.

For each class and each value of a group column, the fall of its recall or accuracy (or the change of its share of yes in
the declared decision) is set against that of all others. An error needs the whole interval of the difference beyond the
tolerance, and to stand among all slices looked at. It says that a gap grew against the reference; a gap that the
reference had already is not its business, and whether a gap is unjust is for people to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from truerun.core.declaration import OutputsSection
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.outputs.comparison import Shift, compare, compare_decisions
from truerun.inspection.outputs.counts import OutputCounts
from truerun.inspection.outputs.intervals import Shares, chance_within, contrast, false_discovery
from truerun.inspection.outputs.outputs_regressed import FALSE_SHARE, MAX_FINDINGS, explain_blind, note

RULE = Rule(
    id="outputs-bias",
    summary="one class or group lost more than the others against the reference run",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0031",
)
_SHOWN_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """How much more one slice changed to its disadvantage (or, for decisions, either way) than the rest of its column."""

    shift: Shift
    change: Shares
    rest: Shares
    verb: str

    @property
    def width(self) -> tuple[float, float, float]:
        return contrast(self.change, self.rest)

    def low_at(self, z: float) -> float:
        return contrast(self.change, self.rest, z)[1]


def check_bias(current: OutputCounts, reference: OutputCounts | None, section: OutputsSection) -> tuple[Finding, ...]:
    """Findings for every class or group that lost more than the others, worst first; one note for what could not be told."""
    blind = explain_blind(current, reference, section)
    if reference is None or blind is not None:
        return (note(RULE, section, blind or ""),)
    shifts = [shift for shift in compare(current, reference) if shift.rest is not None]
    gaps = [_Gap(shift=s, change=s.change, rest=s.rest, verb="fell") for s in shifts if s.rest is not None]
    gaps += _decision_gaps(compare_decisions(current, reference))
    adjusted = false_discovery({n: chance_within(gap.low_at, section.tolerance) for n, gap in enumerate(gaps)})
    wider = [gap for n, gap in enumerate(gaps) if gap.width[1] > section.tolerance and adjusted[n] <= FALSE_SHARE]
    unclear = [gap for gap in gaps if gap not in wider and gap.width[0] > section.tolerance]
    wider.sort(key=lambda gap: -gap.width[0])
    findings = [
        _finding(gap, [s for s in shifts if s.slice.column == gap.shift.slice.column], reference, section) for gap in wider
    ]
    remarks = [_unclear(unclear)] if unclear else []
    return (*findings[:MAX_FINDINGS], *(note(RULE, section, remark) for remark in remarks))


def _decision_gaps(shifts: tuple[Shift, ...]) -> list[_Gap]:
    """Either way counts: one gap a slice, in the direction it went; of two values that mirror each other, the one that moved more."""
    gaps: list[_Gap] = []
    for column in dict.fromkeys(shift.slice.column for shift in shifts):
        group = [shift for shift in shifts if shift.slice.column == column and shift.rest is not None]
        if len(group) == 2:
            group = [max(group, key=lambda shift: abs(shift.change.fall))]
        for shift in group:
            assert shift.rest is not None
            if contrast(shift.change, shift.rest)[0] >= 0:
                gaps.append(_Gap(shift=shift, change=shift.change, rest=shift.rest, verb="fell"))
            else:
                gaps.append(_Gap(shift=shift, change=shift.change.reversed, rest=shift.rest.reversed, verb="rose"))
    return gaps


def _finding(gap: _Gap, column: list[Shift], reference: OutputCounts, section: OutputsSection) -> Finding:
    change, rest = gap.shift.change, gap.shift.rest
    assert rest is not None
    value, low, high = gap.width
    message = (
        f"{gap.shift.slice.words} {gap.verb} by {value:.3f} more than that of the others against {reference.name} "
        f"(95 % interval {low:.3f} to {high:.3f}; {section.tolerance:g} is tolerated): it is {_share(change, now=True):.3f} and was "
        f"{_share(change, now=False):.3f}, the others are at {_share(rest, now=True):.3f} and were at {_share(rest, now=False):.3f}."
    )
    spread = [[_share(s.change, now=side) for s in column] for side in (False, True)]
    evidence = {
        "measure": gap.shift.slice.measure,
        "before": _share(change, now=False),
        "now": _share(change, now=True),
        "others_before": _share(rest, now=False),
        "others_now": _share(rest, now=True),
        "difference": value,
        "interval": [low, high],
        "examples": change.total_now,
        "widest_gap_before": max(spread[0]) - min(spread[0]) if spread[0] else None,
        "widest_gap_now": max(spread[1]) - min(spread[1]) if spread[1] else None,
        "reference": reference.name,
    }
    return RULE.finding(
        Subject(kind="outputs", name=section.predictions, key=gap.shift.slice.key),
        message,
        evidence=evidence,
        location=Location(path=section.predictions, rows=gap.shift.flipped[:_SHOWN_ROWS] or None),
        remedy="truerun trace RUN finds the change and the rows behind it; people who know this group should look before a release",
    )


def _share(change: Shares, *, now: bool) -> float:
    return change.now / change.total_now if now else change.before / change.total_before


def _unclear(gaps: list[_Gap]) -> str:
    worst = sorted(gaps, key=lambda gap: -gap.width[0])[:5]
    texts = [f"{g.shift.slice.words} ({g.width[0]:.3f} on {g.shift.change.total_now} examples)" for g in worst]
    more = f", and {len(gaps) - 5} more" if len(gaps) > 5 else ""
    return f"there are too few examples to say whether these lost more than the tolerance against the others: {', '.join(texts)}{more}"
