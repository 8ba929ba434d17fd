"""A finding: one observation where what happened is not what was declared. Severity and confidence are two fields."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.core.actor import Actor
from truerun.core.codec import to_json
from truerun.core.digest import digest_value


class Severity(enum.Enum):
    """How bad it is if it is true."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for note up to 3 for critical."""
        return list(Severity).index(self)


class Confidence(enum.Enum):
    """How likely it is to be true."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CERTAIN = "certain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """
    What a finding is about: `kind` is one of data, config, code, environment, weights, outputs, run, ledger, people.

    `name` is the artifact's name in the declaration or its path; `key` the part of it: a config key, a column, a tensor.
    """

    kind: str
    name: str
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where to look. `step` and `rank` count from 0 for ranks and 1 for optimizer steps; `rows` are row numbers from 0."""

    path: str | None = None
    line: int | None = None
    step: int | None = None
    rank: int | None = None
    rows: tuple[int, ...] | None = None
    entry: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One observation. `message` alone must be enough at 3 a.m.: what is wrong, where, since when, what to do."""

    rule: str
    severity: Severity
    confidence: Confidence
    subject: Subject
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    location: Location = Location()
    actor: Actor | None = None
    remedy: str | None = None

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that stay the same while rule, subject and place do; for de-duplication."""
        return digest_value([self.rule, to_json(self.subject), to_json(self.location)]).short


def worst(findings: tuple[Finding, ...]) -> Severity | None:
    """The highest severity among *findings*, or None when there is none."""
    return max((finding.severity for finding in findings), key=lambda severity: severity.rank, default=None)
