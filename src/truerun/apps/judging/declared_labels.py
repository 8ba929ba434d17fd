"""Reads the label column of declared data sets for the judges, once, when a loader has as many items as one has rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from truerun.apps.watched_run import DeclaredData
from truerun.core.errors import TruerunError
from truerun.monitoring.batch_content import MAX_VALUES, DeclaredLabels

MAX_BYTES = 256 * 1024 * 1024


@dataclass(slots=True)
class LabelColumns:
    """The label columns of *data* as they are needed. What is too large or cannot be read is left out."""

    data: tuple[DeclaredData, ...]
    _read: dict[str, DeclaredLabels | None] = field(default_factory=dict)

    def of_length(self, rows: int | None) -> Iterator[DeclaredLabels]:
        """The label columns that have *rows* rows."""
        for data in self.data:
            if data.label is not None and data.rows == rows:
                if data.name not in self._read:
                    self._read[data.name] = _load(data, data.label)
                found = self._read[data.name]
                if found is not None:
                    yield found


def _load(data: DeclaredData, label: str) -> DeclaredLabels | None:
    try:
        if sum(path.stat().st_size for path in data.files) > MAX_BYTES:
            return None
        from truerun.adapters.tables import load_table

        cells = load_table(data.files, data.name)[0][label].to_list()
    except (TruerunError, OSError):  # `inputs-changed` and `inspection-incomplete` speak of that
        return None
    known = [cell for cell in cells if isinstance(cell, bool | int | float | str) and cell == cell]  # noqa: PLR0124 (NaN)
    values = tuple(sorted(set(known), key=lambda value: (isinstance(value, str), value)))
    if len(cells) != data.rows or not 2 <= len(values) <= MAX_VALUES:
        return None
    code = {value: number for number, value in enumerate(values)}
    codes = np.array([code.get(cell, -1) if isinstance(cell, bool | int | float | str) else -1 for cell in cells], np.int64)
    return DeclaredLabels(data=data.name, column=label, codes=codes, values=values)
