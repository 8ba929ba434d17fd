"""A rule: a named detector. One name in four places: its module's RULE, its test file, its page in docs/rules, its id in reports.

The module of rule `config-drift` is `config_drift.py`, its test `test_config_drift.py`, its page `docs/rules/config-drift.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from truerun.core.actor import Actor
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a rule looks for; `severity` and `confidence` are its usual ones, a finding may state others. `atlas` is a MITRE ATLAS id."""

    id: str
    summary: str
    severity: Severity
    confidence: Confidence
    atlas: str | None = None

    def finding(
        self,
        subject: Subject,
        message: str,
        *,
        evidence: Mapping[str, Any] | None = None,
        location: Location | None = None,
        actor: Actor | None = None,
        remedy: str | None = None,
        severity: Severity | None = None,
        confidence: Confidence | None = None,
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            rule=self.id,
            severity=severity or self.severity,
            confidence=confidence or self.confidence,
            subject=subject,
            message=message,
            evidence=evidence or {},
            location=location or Location(),
            actor=actor,
            remedy=remedy,
        )
