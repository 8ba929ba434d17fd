"""Which rows of a convicted data change look wrong, and how many of whose: label against neighbours, and values out of range.

Evidence about rows, never about people: a contributor column says who a row came from, not why it is wrong.
Neighbour disagreement: k nearest reference rows in standardised features vote on the label (kNN label noise detection).
Does not see rows that are easy and wrong at once, such as backdoors, nor wrong rows where labels are noise anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from truerun.core.attribution import RowSuspect, SourceSuspect

NEIGHBOURS = 10
DISAGREE = 0.8  # share of neighbours with another label from which a row counts as suspect
MOST_REFERENCE = 5000
MOST_ROWS = 5000
NOISY_LABELS = 0.35  # if the reference's own rows disagree this often, neighbours say nothing
FAR = 20.0  # distance from the reference's middle, in interquartile ranges
SHOWN_ROWS = 200
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some rows of one data set: numeric `columns` by name (NaN where missing), `labels` or None, row `numbers` as locked."""

    columns: Mapping[str, Floats]
    labels: Sequence[Any] | None
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)


def rank_rows(data: str, contributor: str | None, reference: Rows, added: Rows) -> tuple[SourceSuspect, tuple[RowSuspect, ...]]:
    """
    How many of the *added* rows look wrong beside the *reference* rows, with a 95 % interval of the share, worst rows first.

    At most 5,000 rows of each are looked at, evenly spaced; counts are over the rows looked at, scaled to all.
    """
    reference, looked = _spaced(reference, MOST_REFERENCE), _spaced(added, MOST_ROWS)
    reasons: dict[int, tuple[float, str]] = {}
    for position, score, reason in (*_odd_values(reference, looked), *_disagreeing(reference, looked)):
        if position not in reasons or score > reasons[position][0]:
            reasons[position] = (score, reason)
    ordered = sorted(reasons.items(), key=lambda item: (-item[1][0], item[0]))
    rows = tuple(
        RowSuspect(data=data, row=int(looked.numbers[position]), contributor=contributor, reason=reason, score=round(score, 4))
        for position, (score, reason) in ordered[:SHOWN_ROWS]
    )
    share = len(reasons) / max(len(looked), 1)
    source = SourceSuspect(
        data=data,
        contributor=contributor or "",
        rows=len(added),
        rows_suspect=round(share * len(added)),
        interval=tuple(round(edge, 4) for edge in wilson(len(reasons), len(looked))),
    )
    return source, rows


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _spaced(rows: Rows, most: int) -> Rows:
    if len(rows) <= most:
        return rows
    chosen = np.linspace(0, len(rows) - 1, most).astype(int)
    return Rows(
        columns={name: column[chosen] for name, column in rows.columns.items()},
        labels=None if rows.labels is None else [rows.labels[index] for index in chosen],
        numbers=[rows.numbers[index] for index in chosen],
    )


def _odd_values(reference: Rows, added: Rows) -> list[tuple[int, float, str]]:
    """Values far outside what the reference holds: another unit, a sentinel, a missing value where none was."""
    found = []
    for name, column in added.columns.items():
        known = reference.columns.get(name)
        known = known[~np.isnan(known)] if known is not None else np.empty(0)
        if len(known) < 20:
            continue
        low, middle, high = (float(edge) for edge in np.percentile(known, [25, 50, 75]))
        width = max(high - low, (known.max() - known.min()) / 4, 1e-12)
        for position in np.flatnonzero(np.abs(column - middle) > FAR * width):
            value = column[position]
            text = f"{name} is {value:g}; the reference's rows lie between {known.min():g} and {known.max():g}"
            found.append((int(position), 1.0, text))
        if not np.isnan(reference.columns[name]).any():
            found += [(int(position), 0.9, f"{name} is missing") for position in np.flatnonzero(np.isnan(column))]
    return found


def _disagreeing(reference: Rows, added: Rows) -> list[tuple[int, float, str]]:
    """Rows whose label almost none of their nearest reference rows has."""
    names = [name for name in reference.columns if name in added.columns]
    if reference.labels is None or added.labels is None or len(reference) < 3 * NEIGHBOURS or not names:
        return []
    known, new = _standard(reference, added, names)
    known_labels, new_labels = np.asarray(list(map(str, reference.labels))), list(map(str, added.labels))
    check = np.linspace(0, len(known) - 1, min(300, len(known))).astype(int)
    own = _neighbour_labels(known, known_labels, known[check], skip_first=True)
    if float(np.mean(own != known_labels[check][:, None])) > NOISY_LABELS:
        return []
    found = []
    for position, votes in enumerate(_neighbour_labels(known, known_labels, new, skip_first=False)):
        share = float(np.mean(votes != new_labels[position]))
        if share >= DISAGREE:
            values, counts = np.unique(votes, return_counts=True)
            usual = values[int(np.argmax(counts))]
            text = f"label {new_labels[position]}; {int(counts.max())} of its {len(votes)} nearest reference rows are {usual}"
            found.append((position, share, text))
    return found


def _standard(reference: Rows, added: Rows, names: Sequence[str]) -> tuple[Floats, Floats]:
    known = np.column_stack([reference.columns[name] for name in names])
    new = np.column_stack([added.columns[name] for name in names])
    middle, spread = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    spread[~(spread > 0)] = 1.0
    known, new = (np.clip(np.nan_to_num((part - middle) / spread), -8, 8) for part in (known, new))
    return known, new


def _neighbour_labels(known: Floats, labels: npt.NDArray[Any], points: Floats, *, skip_first: bool) -> npt.NDArray[Any]:
    """(points, k): labels of the nearest known rows; with *skip_first* without the nearest, which is the row itself."""
    squares = (known**2).sum(axis=1)
    wanted = NEIGHBOURS + int(skip_first)
    result = []
    for start in range(0, len(points), 512):
        part = points[start : start + 512]
        distance = squares[None, :] - 2 * part @ known.T
        nearest = np.argpartition(distance, wanted - 1, axis=1)[:, :wanted]
        order = np.take_along_axis(distance, nearest, axis=1).argsort(axis=1)
        result.append(labels[np.take_along_axis(nearest, order, axis=1)][:, int(skip_first) :])
    return np.concatenate(result) if result else np.empty((0, NEIGHBOURS), dtype=labels.dtype)
