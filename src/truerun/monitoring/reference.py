"""What a run's hyperparameters are compared with, and where that comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """
    What the hyperparameters must be: `values` by name (`optimizer`, `lr`, `weight_decay`, `betas` …).

    `origins` says in words where each comes from. `certain` are the names that were declared or approved; the others are
    a guess from the configuration's key names and only ever warn.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    certain: frozenset[str] = frozenset()
