"""Rule `label-disagreement`: labels of somebody's new rows disagree with those of similar approved rows, more than chance explains.

Each new row is put among its ten nearest approved rows. How often an honest row disagrees is measured on the approved rows
themselves, each left out in turn; a contributor is named when their rows disagree more often than that explains, over all
classes or for one pair of classes. After "kNN label disagreement" of the data-cleaning literature, with exact tails
(Holm's adjustment over contributors) in place of a threshold. Needs a label of few classes and features that say
something about it; otherwise it says that it cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from truerun.core.finding import Confidence, Finding, Severity
from truerun.core.rule import Rule
from truerun.inspection.data.growth import CERTAIN_ALARM, Growth, Rows, actor_of, by, few, severity_of
from truerun.inspection.data.neighbours import MAX_APPROVED, MAX_NEW, Codes, Matrix, Votes, count_features, features, vote
from truerun.inspection.data.tail import grouped_tail, holm, wilson

RULE = Rule(
    id="label-disagreement",
    summary="labels of somebody's new rows disagree with those of similar approved rows",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0020",
)
_MAX_CLASSES, _MIN_APPROVED, _MIN_FEATURES = 100, 40, 2
# Where honest rows disagree this often, the features say too little about the label.
_BLIND = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Suspicion:
    """One way in which rows of a contributor disagree: in words, the rows, how many were looked at and expected, the chance."""

    what: str
    rows: Rows
    expected: float
    chance: float


def check_labels(growth: Growth) -> tuple[Finding, ...]:
    """One finding for each contributor whose new labels disagree; one note when it cannot be told."""
    if growth.label is None or not growth.added or growth.label not in growth.common:
        return ()
    codes = _codes(growth)
    if codes is None:
        return (_cannot_tell(growth, f"{growth.label} is not a label of 2 to {_MAX_CLASSES} classes"),)
    labels_before, labels_now, names = codes
    generator = np.random.default_rng(growth.seed)
    kept = np.flatnonzero(labels_before >= 0)
    kept = np.sort(generator.choice(kept, MAX_APPROVED, replace=False)) if len(kept) > MAX_APPROVED else kept
    if len(kept) < _MIN_APPROVED:
        return (_cannot_tell(growth, f"there are fewer than {_MIN_APPROVED} approved rows with a label"),)
    columns = [column for column in growth.common if column != growth.label]
    if count_features(growth.approved, growth.now, columns) < _MIN_FEATURES:
        return (_cannot_tell(growth, "there are too few columns of numbers or small categories to compare rows by"),)
    labels = labels_before[kept]
    before, now, honest = _better_scale(growth, columns, kept, labels)
    if float((honest.majority != honest.own).mean()) > _BLIND:
        return (_cannot_tell(growth, "similar approved rows seldom share a label"),)
    found: dict[str, list[_Suspicion]] = {}
    for contributor, added in growth.added.items():
        rows = added[labels_now[added] >= 0]
        rows = np.sort(generator.choice(rows, MAX_NEW, replace=False)) if len(rows) > MAX_NEW else rows
        if len(rows):
            votes = vote(before, labels, now[rows], labels_now[rows])
            found[contributor] = _suspicions(rows, votes, honest, _own_honest(growth, contributor, kept, honest), names)
    tests = {name: min(suspicion.chance for suspicion in all_of) for name, all_of in found.items()}
    return tuple(
        _finding(growth, name, found[name], chance=chance, severity=severity)
        for name, chance in holm(tests).items()
        if (severity := severity_of(chance))
    )


def _better_scale(growth: Growth, columns: list[str], kept: Rows, labels: Codes) -> tuple[Matrix, Matrix, Votes]:
    """The features in whichever scale makes similar approved rows share labels more often, and how they then vote."""
    best: tuple[Matrix, Matrix, Votes] | None = None
    for common_scale in (False, True):
        before, now = features(growth.approved, growth.now, columns, common_scale=common_scale)
        honest = vote(before[kept], labels, before[kept], labels, skip_self=np.arange(len(kept)))
        if best is None or (honest.majority != honest.own).sum() < (best[2].majority != best[2].own).sum():
            best = before[kept], now, honest
    assert best is not None
    return best


def _codes(growth: Growth) -> tuple[Codes, Codes, list[str]] | None:
    """Labels of both frames as codes (-1 where absent) and their names; None where the label is not one of classes."""
    label = growth.classes
    if label is None:
        return None
    series = (growth.approved[label], growth.now[label])
    if any(s.dtype.is_float() and not bool((s.drop_nulls().drop_nans() % 1 == 0).all()) for s in series):
        return None
    texts = [(s.cast(pl.Int64, strict=False) if s.dtype.is_float() else s).cast(pl.String) for s in series]
    names = sorted({*texts[0].drop_nulls().unique().to_list(), *texts[1].drop_nulls().unique().to_list()})
    if not 2 <= len(names) <= _MAX_CLASSES:
        return None
    place = {name: code for code, name in enumerate(names)}
    codes = [np.array([place.get(text, -1) for text in s.to_list()], np.int64) for s in texts]
    return codes[0], codes[1], names


def _own_honest(growth: Growth, contributor: str, kept: Rows, honest: Votes) -> np.ndarray:
    """Which of the approved rows that were looked at are the contributor's own."""
    column = growth.contributor
    if not contributor or column is None or column not in growth.approved.columns:
        return np.zeros(len(kept), dtype=bool)
    own: np.ndarray = (growth.approved[column].cast(pl.String) == contributor).fill_null(value=False).to_numpy()[kept]
    return own


def _suspicions(rows: Rows, votes: Votes, honest: Votes, own: np.ndarray, names: list[str]) -> list[_Suspicion]:
    """Every question that was asked of one contributor's rows, with its chance adjusted for their number."""
    questions = [
        ("disagree with most of their ten nearest approved rows", votes.majority != votes.own, honest.majority != honest.own),
        ("share their label with at most one of their ten nearest approved rows", _alone(votes), _alone(honest)),
    ]
    pairs = {(int(o), int(m)) for o, m in zip(votes.own, votes.majority, strict=True) if o != m}
    questions += [
        (
            f"are labelled {names[own_label]} among approved rows labelled {names[majority]}",
            (votes.own == own_label) & (votes.majority == majority),
            (honest.own == own_label) & (honest.majority == majority),
        )
        for own_label, majority in sorted(pairs)
    ]
    found = []
    for number, (what, here, there) in enumerate(questions):
        # A contributor of hard examples is measured against their own approved rows.
        chance = grouped_tail(
            int(here.sum()),
            len(rows),
            seen=int(there.sum()),
            total=len(there),
            own_seen=int(there[own].sum()),
            own_total=int(own.sum()),
        )
        # Half of the false-alarm rate is for the two general questions, half for all pairs of classes that could occur.
        share = 4 if number < 2 else 2 * len(names) * (len(names) - 1)
        expected = float(there.mean() * len(rows))
        found.append(_Suspicion(what=what, rows=rows[here], expected=expected, chance=min(1.0, chance * share)))
    return found


def _alone(votes: Votes) -> np.ndarray:
    alone: np.ndarray = votes.agreeing <= 1
    return alone


def _finding(growth: Growth, contributor: str, asked: list[_Suspicion], *, chance: float, severity: Severity) -> Finding:
    main = min(asked, key=lambda suspicion: suspicion.chance)
    total = len(growth.added[contributor])
    count = len(main.rows)
    low, high = wilson(count, min(total, MAX_NEW))
    suspect = np.unique(np.concatenate([main.rows, asked[0].rows]))
    return RULE.finding(
        growth.subject(growth.label),
        f"{growth.name}: {count} of {total} new rows{by(contributor)} {main.what} (rows {few(main.rows)}); "
        f"{main.expected:.1f} would be expected from the data that {growth.reference.since}. "
        "Look at these labels with whoever added them before training on them.",
        severity=severity,
        confidence=Confidence.HIGH if chance < CERTAIN_ALARM else Confidence.MEDIUM,
        evidence={
            "declared": {"expected": round(main.expected, 2)},
            "observed": {"disagreeing": count, "rows": total, "interval": [round(low, 4), round(high, 4)]},
            "question": main.what,
            "contributor": contributor or None,
            "probability": chance,
        },
        location=growth.location(suspect),
        actor=actor_of(contributor),
        remedy=growth.remedy(),
    )


def _cannot_tell(growth: Growth, why: str) -> Finding:
    return RULE.finding(
        growth.subject(growth.label),
        f"{growth.name}: whether labels are right could not be told, because {why}. The other data rules still apply.",
        severity=Severity.NOTE,
        confidence=Confidence.CERTAIN,
        evidence={"could_not_tell": why},
    )
