"""A table of predictions as the rules need it: which examples were right, and the slices that they fall into.

Built from plain columns; reading files is the business of `adapters/tables.py`. Values are compared as text, and whole
numbers alike however they were stored (`3`, `3.0`). Holds no features and no more than the codes of each slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from truerun.core.declaration import OutputsSection

ID_COLUMNS = ("id", "example_id", "row_id")
MAX_VALUES = 200
_YES = frozenset(("1", "true", "yes", "approve", "approved", "accept", "accepted"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One way to slice the examples: a class or group column. `codes` gives each example's value as its place in `values`, -1 for none."""

    name: str
    values: tuple[str, ...]
    codes: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutputCounts:
    """
    What one run put out, over n examples that have a label and a prediction.

    `name` says whose outputs they are, for people. `rows` are row numbers in the table, `ids` the examples' ids where a
    column names each once. `labels` are the classes, `groups` the declared group columns. `decided` is whether the
    declared decision is a yes, or None. `missing` are declared columns that are not in the table, `skipped` counts rows
    without label or prediction.
    """

    name: str
    rows: NDArray[np.int64]
    ids: tuple[str, ...] | None
    labels: Dimension
    right: NDArray[np.bool_]
    groups: tuple[Dimension, ...] = ()
    decided: NDArray[np.bool_] | None = None
    missing: tuple[str, ...] = ()
    skipped: int = 0

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return len(self.right)


def count_outputs(columns: Mapping[str, Sequence[Any]], section: OutputsSection, *, name: str) -> OutputCounts:
    """Read *columns* of one predictions table (all of one length) as *section* declares them; never raises for what is missing."""
    prediction = section.prediction if section.prediction in columns or section.decision is None else section.decision
    wanted = (section.label, prediction, *section.groups, *((section.decision,) if section.decision else ()))
    missing = tuple(dict.fromkeys(column for column in wanted if column not in columns))
    length = min((len(column) for column in columns.values()), default=0)
    empty: list[Any] = [None] * length
    labels = [_text(value) for value in columns.get(section.label, empty)[:length]]
    predictions = [_text(value) for value in columns.get(prediction, empty)[:length]]
    rows = np.array([i for i in range(length) if labels[i] is not None and predictions[i] is not None], dtype=np.int64)
    kept = rows.tolist()
    decision = columns.get(section.decision, None) if section.decision else None
    return OutputCounts(
        name=name,
        rows=rows,
        ids=_ids(columns, kept),
        labels=_dimension(section.label, [labels[i] for i in kept]),
        right=np.array([labels[i] == predictions[i] for i in kept], dtype=np.bool_),
        groups=tuple(_dimension(group, [_text(columns[group][i]) for i in kept]) for group in section.groups if group in columns),
        decided=None if decision is None else np.array([_is_yes(decision[i]) for i in kept], dtype=np.bool_),
        missing=missing,
        skipped=length - len(kept),
    )


def _dimension(name: str, texts: Sequence[str | None]) -> Dimension:
    """Slices for the *MAX_VALUES* most frequent values; examples of rarer ones are in no slice."""
    counts: dict[str, int] = {}
    for text in texts:
        if text is not None:
            counts[text] = counts.get(text, 0) + 1
    values = sorted(sorted(counts, key=lambda text: (-counts[text], text))[:MAX_VALUES])
    places = {text: place for place, text in enumerate(values)}
    codes = np.array([-1 if text is None else places.get(text, -1) for text in texts], dtype=np.int64)
    return Dimension(name=name, values=tuple(values), codes=codes)


def _ids(columns: Mapping[str, Sequence[Any]], kept: Sequence[int]) -> tuple[str, ...] | None:
    column = next((columns[name] for name in ID_COLUMNS if name in columns), None)
    if column is None:
        return None
    found = tuple(_text(column[i]) for i in kept)
    present = tuple(text for text in found if text is not None)
    return present if len(present) == len(found) == len(set(present)) else None


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_yes(value: Any) -> bool:
    text = _text(value)
    return text is not None and text.casefold() in _YES
