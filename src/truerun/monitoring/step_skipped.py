"""The caller's side of a step: gradients that were computed and never used, and optimizers that never step.

Compares how often `backward` runs before each step with the run's own habit (or a declared `accumulation`): twice as
often means that one step was left out. Cannot see gradients that `torch.autograd.grad` computes. A GradScaler may skip
steps legally. A step that is called and does nothing is `update-mismatch`.
"""

from __future__ import annotations

from collections import Counter

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.observation import Sample

RULE = Rule(
    id="step-skipped",
    summary="gradients were computed and no optimizer step used them",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
)
HABIT_STEPS = 5
NEVER_BACKWARDS = 128
STALLED = 8
MANY = 4


class StepPattern:
    """Follows the calls of `backward` before each step of one optimizer; `accumulation` is the declared number, if any."""

    def __init__(self, kind: str, rank: int, accumulation: int | None = None) -> None:
        self.kind = kind
        self.rank = rank
        self.accumulation = accumulation
        self._seen: Counter[int] = Counter()

    def check(self, backwards: int, step: int, notes: frozenset[str]) -> tuple[Finding, ...]:
        """A finding when *backwards* calls before *step* are a multiple (two or more) of what is usual."""
        habit = self.accumulation or self._habit()
        self._seen[backwards] += 1
        if not habit or backwards < 2 * habit or backwards % habit or "grad_scaler" in notes:
            return ()
        skipped = backwards // habit - 1
        return (
            RULE.finding(
                Subject(kind="run", name=self.kind),
                f"Before step {step}, backward() ran {backwards} times where it runs {habit} times a step: "
                f"{skipped} step{'s were' if skipped > 1 else ' was'} left out between step {step - 1} and step {step}.",
                evidence={"usual": habit, "observed": backwards, "skipped": skipped},
                location=Location(step=step, rank=self.rank),
                # Many at once may be an analysis that needs gradients of its own.
                severity=Severity.ERROR if skipped < MANY else Severity.WARNING,
                remedy="look for a condition around optimizer.step() in the training loop",
            ),
        )

    def check_stalled(self, backwards: int, step: int, *, ended: bool) -> tuple[Finding, ...]:
        """A finding when *backwards* calls have followed *step* and no further step has; an error once the process has *ended*."""
        habit = self.accumulation or self._habit() or 1
        if backwards < max(STALLED, 2 * habit):
            return ()
        return (
            RULE.finding(
                Subject(kind="run", name=self.kind, key="step()"),
                f"After step {step}, backward() ran {backwards} times and no step followed{'' if ended else ' so far'}: "
                "step() is not called any more, nothing is learned from there on.",
                evidence={"usual": habit, "observed": backwards, "term": "ended" if ended else "stalled"},
                location=Location(step=step + 1, rank=self.rank),
                severity=Severity.ERROR if ended else Severity.WARNING,
                confidence=Confidence.HIGH if ended else Confidence.MEDIUM,
                remedy="look for a condition around optimizer.step() in the training loop",
            ),
        )

    def _habit(self) -> int | None:
        """The usual number of calls once it has been the same at nine of ten steps, five at least."""
        total = sum(self._seen.values())
        if total < HABIT_STEPS:
            return None
        usual, often = self._seen.most_common(1)[0]
        return usual if usual and often >= 0.9 * total else None


def check_never_stepped(backwards: int, optimizers: int, rank: int, *, ended: bool) -> tuple[Finding, ...]:
    """A finding when a process ran `backward` again and again, has an optimizer, and has never stepped."""
    if not optimizers or backwards < (2 if ended else NEVER_BACKWARDS):
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name="step()"),
            f"backward() ran {backwards} times and no optimizer step followed{'' if ended else ' so far'}: "
            "nothing is being learned, although the process has an optimizer.",
            evidence={"backwards": backwards, "optimizers": optimizers},
            location=Location(step=0, rank=rank),
            confidence=Confidence.CERTAIN if ended else Confidence.MEDIUM,
            remedy="look for optimizer.step() in the training loop, and at what it is called on",
        ),
    )


def check_without_gradients(sample: Sample) -> tuple[Finding, ...]:
    """A finding when a step found no gradient on any of its parameters: it holds others than those that are trained."""
    if not sample.optimizer.names or len(sample.no_gradient) < len(sample.optimizer.names):
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name=sample.optimizer.rule or sample.optimizer.kind, key="gradients"),
            f"At step {sample.step} none of the optimizer's {len(sample.optimizer.names)} parameters has a gradient: "
            "it holds other parameters than those that are trained, or the gradients were cleared before the step.",
            evidence={"parameters": len(sample.optimizer.names)},
            location=Location(step=sample.step, rank=sample.optimizer.rank),
            confidence=Confidence.CERTAIN,
            remedy="give the optimizer the parameters of the model that is trained, and call zero_grad() before backward()",
        ),
    )
