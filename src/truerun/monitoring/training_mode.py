"""Modules that are in evaluation mode while they are trained: dropout that drops nothing, batch norm that learns no statistics.

Compared with the approved run where there is one. Without it: a model that was in training mode and is left in evaluation mode (a
`train()` missing after a validation), one that is in evaluation mode from its first step, and batch norm frozen before it has seen
a single batch. Batch norm that is frozen with statistics of its own is often the method, and is not spoken of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.training_set import listed, plain_name

RULE = Rule(
    id="training-mode",
    summary="modules are in evaluation mode while they are trained",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
)
TIMES = 3
EFFECT = {"dropout": "nothing is dropped", "norm": "batch statistics are neither used nor learned"}


@dataclass(slots=True, eq=False)
class ModePattern:
    """Follows the modules of one optimizer's model from step to step; `earlier` is what `learned` gave for the approved run."""

    names: Sequence[str]
    kinds: Sequence[str]
    earlier: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    same_program: bool = False
    first: frozenset[int] = frozenset()
    now: frozenset[int] = frozenset()
    trained: frozenset[int] = frozenset()
    untouched: frozenset[int] = frozenset()
    since: int = 0
    steps: int = 0

    def check(self, evaluating: Sequence[int] | None, untouched: Sequence[int], step: int, rank: int) -> tuple[Finding, ...]:
        """Take one step: the positions that are in evaluation mode, None where they are as at the step before."""
        self.steps += 1
        if evaluating is not None:
            self.now, self.untouched, self.since = frozenset(evaluating), frozenset(untouched), self.steps
            if self.steps == 1:
                self.first = self.now
            self.trained |= frozenset(range(len(self.names))) - self.now
        if self.steps != self.since + TIMES - 1:
            return ()
        return self._judge(step, rank)

    def _judge(self, step: int, rank: int) -> tuple[Finding, ...]:
        begun = step - TIMES + 1
        if self.earlier.get("names") == self._digest():
            then = [frozenset(self.earlier[key]) for key in ("first", "last")]
            more = self.now - then[0] - then[1]
            words = f"in {self.origin} they were in training mode"
            level = Severity.ERROR if self.same_program else Severity.WARNING
            return self._finding(more, "earlier", words, level, (step, rank))
        if self.untouched:
            words = "they normalise by the statistics they were made with, because no batch was ever counted in"
            return self._finding(self.untouched, "untouched", words, Severity.ERROR, (step, rank))
        every = len(self.now) == len(self.names)
        if self.since > 1:
            words = f"they were in training mode before step {begun}"
            level = Severity.ERROR if every else Severity.WARNING
            return self._finding(self.now & self.trained, "left", words, level, (step, rank))
        if every:
            return self._finding(self.now, "first", "they are so from the first step on", Severity.WARNING, (step, rank))
        return ()

    def _finding(self, which: frozenset[int], term: str, words: str, level: Severity, at: tuple[int, int]) -> tuple[Finding, ...]:
        if not which:
            return ()
        begun, rank = at[0] - TIMES + 1, at[1]
        names = [plain_name(self.names[i]) for i in sorted(which)]
        effects = " and ".join(sorted({EFFECT[self.kinds[i]] for i in which}))
        return (
            RULE.finding(
                Subject(kind="run", name="model", key=names[0] if len(names) == 1 else None),
                f"Since step {begun}, {len(names)} of {len(self.names)} modules are trained in evaluation mode: "
                f"{listed(names)}; {words}. In this mode {effects}.",
                evidence={"term": term, "modules": names[:64]},
                location=Location(step=begun, rank=rank),
                severity=level,
                confidence=Confidence.HIGH if level is Severity.ERROR else Confidence.MEDIUM,
                remedy="call model.train() before training goes on after a validation, and look for eval() on a part of the model",
            ),
        )

    def learned(self) -> dict[str, Any]:
        """Which modules were in evaluation mode at first and at last, for a later run with the same modules."""
        return {"names": self._digest(), "first": sorted(self.first), "last": sorted(self.now)}

    def _digest(self) -> str:
        return hashlib.blake2b("\n".join(map(plain_name, self.names)).encode(), digest_size=16).hexdigest()
