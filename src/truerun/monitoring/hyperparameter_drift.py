"""Effective hyperparameters: are the ones the optimizer runs with those that were declared or approved, at step 1 and later?

Legal later: a learning rate (and the momentum that some schedules move along) changed by a torch scheduler, anything after
`load_state_dict`. A learning rate that the program's own code changes is an error where the declared or approved run knows
no such thing, else a warning, because many honest loops compute their schedule by hand. With nothing declared and nothing
approved there is only consistency to check, and the run says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.reference import Reference

RULE = Rule(
    id="hyperparameter-drift",
    summary="the optimizer runs with other hyperparameters than declared or approved, or they changed on the way",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)
NUMBERS = ("lr", "weight_decay", "momentum", "dampening", "betas", "eps")
FLAGS = ("nesterov", "amsgrad", "maximize")
# Names that a declaration may use for something else: they are held to stay as they were, no more.
OTHERS = ("alpha", "rho", "lr_decay", "momentum_decay", "lambd", "t0", "beta2_decay", "d", "ns_coefficients", "ns_steps")
OTHER_FLAGS = ("centered", "decoupled_weight_decay", "adjust_lr_fn")
SCHEDULED = ("lr", "momentum", "betas", "initial_lr")
CLOSE = 1e-9
Groups = Sequence[Mapping[str, Any]]


class HyperparameterWatch:
    """Follows the hyperparameters of one optimizer; `changed_by` says what moved the learning rate so far."""

    def __init__(self, rule: str | None, kind: str, rank: int, reference: Reference) -> None:
        self.rule = rule
        self.kind = kind
        self.rank = rank
        self.reference = reference
        self.changed_by = "nothing"
        self.first: Groups = ()
        self._last: Groups = ()

    def check(self, groups: Groups, step: int, notes: frozenset[str]) -> tuple[Finding, ...]:
        """
        Findings for the *groups* as they were when *step* began.

        *notes* say what happened since the step before: `load_state_dict`, `scheduler.lr` (a torch scheduler changed lr),
        `code.lr` (something else did).
        """
        before, self._last = self._last, groups
        if not before:
            self.first = groups
            return self._check_first(groups, step, scheduled="scheduler" in notes)
        if "load_state_dict" in notes or len(before) != len(groups):
            return ()
        findings: list[Finding] = []
        for number, (old, new) in enumerate(zip(before, groups, strict=True)):
            findings += self._check_later(old, new, number, step, notes)
        return tuple(findings)

    def effective(self) -> dict[str, Any]:
        """What the first step ran with, for the record of the run."""
        if not self.first:
            return {}
        groups = [{name: value for name, value in _base(group).items() if name != "initial_lr"} for group in self.first]
        shown = {"optimizer": self.rule or self.kind, **groups[0], "lr_changed_by": self.changed_by}
        return {**shown, "groups": groups} if len(groups) > 1 else shown

    def _check_first(self, groups: Groups, step: int, *, scheduled: bool) -> tuple[Finding, ...]:
        findings = []
        expected = self.reference.values
        name = self.rule or self.kind
        wanted = expected.get("optimizer")
        if wanted is not None and str(wanted).lower() not in (name.lower(), self.kind.lower()):
            findings.append(self._differs("optimizer", wanted, name, step))
        seen = [_base(group) for group in groups] if scheduled else list(groups)
        approved = expected.get("groups")
        if approved is not None and len(approved) == len(seen):
            for number, (old, new) in enumerate(zip(approved, seen, strict=True)):
                findings += [
                    self._differs(key, old[key], new[key], step, group=number)
                    for key in NUMBERS + FLAGS
                    if key in old and key in new and not same(old[key], new[key])
                ]
            return tuple(findings)
        for key in NUMBERS + FLAGS:
            observed = [group[key] for group in seen if key in group]
            # Several groups may differ on purpose (no decay on biases): one of them has to be as declared.
            if key in expected and observed and not any(same(expected[key], value) for value in observed):
                findings.append(self._differs(key, expected[key], observed[0], step))
        return tuple(findings)

    def _check_later(
        self, old: Mapping[str, Any], new: Mapping[str, Any], number: int, step: int, notes: frozenset[str]
    ) -> list[Finding]:
        findings = []
        for key in (*NUMBERS, *FLAGS, *OTHERS, *OTHER_FLAGS):
            if key not in old or key not in new or same(old[key], new[key], exact=True):
                continue
            if key in SCHEDULED and f"scheduler.{key}" in notes and f"code.{key}" not in notes:
                self.changed_by = "scheduler" if self.changed_by == "nothing" else self.changed_by
                continue
            findings += self._changed(key, old[key], new[key], number, step)
        return findings

    def _changed(self, key: str, old: Any, new: Any, number: int, step: int) -> list[Finding]:
        severity = Severity.ERROR
        if key == "lr":
            self.changed_by = "code"
            known = self.reference.values.get("lr_changed_by")
            if known == "code":
                return []
            severity = Severity.ERROR if known is not None or "lr" in self.reference.certain else Severity.WARNING
        return [
            RULE.finding(
                Subject(kind="run", name=self.rule or self.kind, key=key),
                f"{key} of parameter group {number} changed from {_shown(old)} to {_shown(new)} between step {step - 1} and "
                f"step {step}, and no torch scheduler or load_state_dict did it.",
                evidence={"declared": old, "observed": new, "group": number},
                location=Location(step=step, rank=self.rank),
                severity=severity,
                remedy="find the code that writes to optimizer.param_groups"
                + ('; if it computes the schedule, declare [training] lr_changed_by = "code"' if key == "lr" else ""),
            )
        ]

    def _differs(self, key: str, wanted: Any, got: Any, step: int, group: int | None = None) -> Finding:
        certain = key in self.reference.certain or ("groups" in self.reference.certain and group is not None)
        origin = self.reference.origins.get(key) or self.reference.origins.get("groups") or "the declaration"
        where = "" if group is None else f" of parameter group {group}"
        return RULE.finding(
            Subject(kind="run", name=self.rule or self.kind, key=key),
            f"The optimizer starts with {key}{where} {_shown(got)}; {_shown(wanted)} is what {origin} says. "
            "It was set on the way: by an environment variable, the command line or a default in the code.",
            evidence={"declared": wanted, "observed": got, "origin": origin},
            location=Location(step=step, rank=self.rank),
            severity=None if certain else Severity.WARNING,
            confidence=None if certain else Confidence.MEDIUM,
            remedy="compare with an approved run; declare or approve the new value if it is meant",
        )


def check_seed(seed: int, rank: int, reference: Reference) -> tuple[Finding, ...]:
    """A warning when rank 0's torch generator was seeded with another number than declared; a program may seed otherwise on purpose."""
    wanted = reference.values.get("seed")
    if wanted is None or rank or same(wanted, seed):
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name="torch", key="seed"),
            f"torch was seeded with {seed} when the optimizer began; {wanted} is what {reference.origins.get('seed', 'the reference')} "
            "says.",
            evidence={"declared": wanted, "observed": str(seed)},
            location=Location(step=1, rank=rank),
            severity=Severity.WARNING,
            confidence=Confidence.MEDIUM,
            remedy="look for manual_seed in the code, and for what the program does with the declared seed",
        ),
    )


def same(wanted: Any, got: Any, *, exact: bool = False) -> bool:
    """Whether two settings are the same number, flag or list of numbers; unless *exact*, up to a relative 1e-9."""
    if isinstance(wanted, list | tuple) and isinstance(got, list | tuple):
        return len(wanted) == len(got) and all(same(a, b, exact=exact) for a, b in zip(wanted, got, strict=True))
    try:
        a, b = float(wanted), float(got)
    except (TypeError, ValueError):
        return bool(wanted == got)
    return a == b or (not exact and math.isclose(a, b, rel_tol=CLOSE)) or (math.isnan(a) and math.isnan(b))


def _base(group: Mapping[str, Any]) -> dict[str, Any]:
    """The group with the learning rate that schedules start from, where a scheduler has put its own in place."""
    return {**group, "lr": group["initial_lr"]} if "initial_lr" in group else dict(group)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_shown(item) for item in value) + ")"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
