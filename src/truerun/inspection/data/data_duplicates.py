"""Rule `data-duplicates`: somebody's new rows repeat rows that are already there, more than chance explains.

Repeating rows up-weights them. Rows count as copies when all columns but those that say who added them and which row it
is are equal (numbers to three digits), and as near-copies when they lie at a small fraction of the distance that separates
approved rows. A row that was edited in place is no copy of its former self. Does not look into other data sets.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from truerun.core.finding import Confidence, Finding, Severity
from truerun.core.rule import Rule
from truerun.inspection.data.growth import Growth, Rows, actor_of, by, few, severity_of
from truerun.inspection.data.neighbours import MAX_APPROVED, MAX_NEW, features, nearest_distances
from truerun.inspection.data.tail import holm, predictive_tail

RULE = Rule(
    id="data-duplicates",
    summary="new rows repeat rows that are already there",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0020",
)
_MIN_COLUMNS, _MIN_FEATURES = 2, 4
# A near-copy lies within this share of the median distance between an approved row and its nearest other one.
_NEAR = 0.15


def check_duplicates(growth: Growth) -> tuple[Finding, ...]:
    """One finding for each contributor whose new rows repeat approved rows or one another."""
    columns = [c for c in growth.common if growth.now[c].dtype == growth.approved[c].dtype and c != growth.label]
    if len(columns) < _MIN_COLUMNS or not growth.added or not growth.approved.height:
        return ()
    labelled = [growth.label] if growth.label is not None and growth.label in growth.common else []
    found = {"equal": _copies(growth, columns + labelled)}
    near = _near_copies(growth, columns)
    if near is not None:
        found["nearly equal"] = near
    tests = {
        (kind, contributor): predictive_tail(len(rows), len(growth.added[contributor]), before, growth.approved.height)
        for kind, (copies, before) in found.items()
        for contributor, rows in copies.items()
    }
    worst: dict[str, tuple[float, str]] = {}
    for (kind, contributor), chance in holm(tests).items():
        worst[contributor] = min(worst.get(contributor, (1.0, kind)), (chance, kind))
    return tuple(
        _finding(growth, contributor, kind, rows=found[kind][0][contributor], chance=chance, severity=severity)
        for contributor, (chance, kind) in worst.items()
        if (severity := severity_of(chance))
    )


def _copies(growth: Growth, names: list[str]) -> tuple[dict[str, Rows], int]:
    """Each contributor's new rows that equal another row, and how many approved rows do."""
    before, kept, now = (_keys(frame, names) for frame in (growth.approved, growth.kept, growth.now))
    repeats: dict[str, Rows] = {}
    for contributor, rows in growth.added.items():
        keys = now[rows]
        first: npt.NDArray[np.bool_] = np.zeros(len(keys), dtype=bool)
        first[np.unique(keys, return_index=True)[1]] = True
        repeats[contributor] = rows[~first | np.isin(keys, kept)]
    return repeats, len(before) - len(np.unique(before))


def _keys(frame: pl.DataFrame, columns: list[str]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row, numbers rounded to three significant digits."""
    rounded = [pl.col(column).round_sig_figs(3) if frame[column].dtype.is_float() else pl.col(column) for column in columns]
    keys: npt.NDArray[np.uint64] = frame.select(rounded).hash_rows(seed=1).to_numpy()
    return keys


def _near_copies(growth: Growth, columns: list[str]) -> tuple[dict[str, Rows], int] | None:
    """As `_copies`, by distance; None where there are too few features or too little distance between rows to tell."""
    before, now = features(growth.approved, growth.now, columns)
    generator = np.random.default_rng(growth.seed)
    if before.shape[1] < _MIN_FEATURES or growth.approved.height < 2:
        return None
    sample = np.arange(len(before))
    sample = np.sort(generator.choice(sample, MAX_APPROVED, replace=False)) if len(sample) > MAX_APPROVED else sample
    apart = nearest_distances(before[sample], before[sample], skip_self=np.arange(len(sample)))
    limit = _NEAR * float(np.median(apart))
    if limit <= 0:
        return None
    new = np.unique(np.concatenate(list(growth.added.values())))
    new = np.sort(generator.choice(new, MAX_NEW, replace=False)) if len(new) > MAX_NEW else new
    kept = np.setdiff1d(sample, growth.removed) if growth.removed is not None else sample
    pool = np.concatenate([before[kept], now[new]])
    close = new[nearest_distances(pool, now[new], skip_self=len(kept) + np.arange(len(new))) < limit]
    share = growth.approved.height / len(sample)
    copies = {contributor: rows[np.isin(rows, close)] for contributor, rows in growth.added.items()}
    return copies, min(growth.approved.height, round(float((apart < limit).sum()) * share))


def _finding(growth: Growth, contributor: str, kind: str, *, rows: Rows, chance: float, severity: Severity) -> Finding:
    total = len(growth.added[contributor])
    return RULE.finding(
        growth.subject(),
        f"{growth.name}: {len(rows)} of {total} new rows{by(contributor)} are {kind} to rows that are already there "
        f"(rows {few(rows)}), more than among the {growth.approved.height} rows of the data that {growth.reference.since}. "
        "Repeated rows weigh more in training; leave the copies out.",
        severity=severity,
        evidence={
            "declared": {"rows": growth.approved.height},
            "observed": {"repeated": len(rows), "rows": total, "how": kind},
            "contributor": contributor or None,
            "probability": chance,
        },
        location=growth.location(rows),
        actor=actor_of(contributor),
        remedy=growth.remedy(),
    )
