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
    a guess from the configuration's key names and only ever warn. `learned` is what the approved run showed of itself, by
    aspect (`batches`, `time` …); `learned_from` names that run in words, and `same_program` says that its code, command
    and environment were the same, so that what differs is not explained by them; `same_lock` that data and configuration
    were, too.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    certain: frozenset[str] = frozenset()
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    learned_from: str = ""
    same_program: bool = False
    same_lock: bool = False
