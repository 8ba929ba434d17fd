"""Settings: ranks that train one model together run the same code with the same hyperparameters and arguments.

Compares only ranks of which torch itself says that they train together (DistributedDataParallel, DTensor meshes). Code is
what both have loaded from outside the installed packages, by digest; arguments and variables that name a rank or a device
are left out. Cannot see code that is the same and behaves differently by rank: `ranks-differ` sees what it does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="rank-settings-differ",
    summary="ranks that train one model together run with different code or settings",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)
Groups = tuple[tuple[tuple[str, str], ...], ...]
OF_ONE_RANK = re.compile(r"rank|device|gpu|cuda|node|worker", re.IGNORECASE)
REMEDY = "give every rank the same code, arguments and configuration, and start again from the last checkpoint before it"


def check_hyperparameters(groups: Mapping[int, Groups], step: int, kind: str, told: Collection[int]) -> tuple[Finding, ...]:
    """A finding when the parameter groups of the ranks' optimizers (rank to groups) differ at *step*; *told* are suspects."""
    if len(set(groups.values())) < 2:
        return ()
    index, name = _first_difference(list(groups.values()))
    held = {rank: dict(of[index]).get(name, "absent") if index < len(of) else "absent" for rank, of in groups.items()}
    return (
        _finding(
            Subject(kind="run", name=kind, key=name),
            f"At step {step}, {name} of {kind} is not the same on all ranks: ",
            held,
            step=step,
            told=told,
        ),
    )


def check_programs(programs: Mapping[int, Mapping[str, Any]]) -> tuple[Finding, ...]:
    """One finding for each module, argument list or setting that differs between *programs* (by rank)."""
    found: list[Finding] = []
    codes = [program["code"] for program in programs.values()]
    for module in sorted(set(codes[0]).intersection(*codes[1:])):
        held = {rank: str(program["code"][module]) for rank, program in programs.items()}
        if len(set(held.values())) > 1:
            subject = Subject(kind="code", name=str(module))
            found.append(_finding(subject, f"The ranks run different code of module {module}: ", held))
    arguments = {rank: " ".join(_shared_arguments(program["arguments"])) for rank, program in programs.items()}
    if len(set(arguments.values())) > 1:
        subject = Subject(kind="run", name="arguments")
        found.append(_finding(subject, "The ranks were started with different arguments: ", arguments, severity=Severity.WARNING))
    names = sorted({name for program in programs.values() for name in program["settings"]})
    for name in names:
        held = {rank: str(program["settings"].get(name, "not set")) for rank, program in programs.items()}
        if len(set(held.values())) > 1:
            subject = Subject(kind="environment", name=name)
            found.append(_finding(subject, f"{name} is not the same on all ranks: ", held, severity=Severity.WARNING))
    return tuple(found)


def check_samplers(read: Mapping[int, tuple[int, int, int]], *, shuffled: bool) -> tuple[Finding, ...]:
    """Findings when ranks *read* (rank to part, seed, epoch of their DistributedSampler) the same part, or of different orders."""
    parts = {rank: part for rank, (part, _, _) in read.items()}
    subject = Subject(kind="data", name="DistributedSampler")
    found: list[Finding] = []
    if len(set(parts.values())) < len(parts):
        words = "Ranks read the same part of the data, and other parts are read by nobody: part "
        held = {rank: str(part) for rank, part in parts.items()}
        found.append(_finding(subject, words, held, confidence=Confidence.HIGH, named=False))
    orders = {rank: f"seed {seed}, epoch {epoch}" for rank, (_, seed, epoch) in read.items()}
    if shuffled and len(set(orders.values())) > 1:
        words = "The ranks divide the data in different orders, so that they read some rows twice and others never: "
        found.append(
            _finding(replace(subject, key="order"), words, orders, severity=Severity.WARNING, confidence=Confidence.HIGH)
        )
    return tuple(found)


def _finding(
    subject: Subject,
    words: str,
    held: Mapping[int, str],
    *,
    step: int | None = None,
    told: Collection[int] = (),
    severity: Severity = Severity.ERROR,
    confidence: Confidence = Confidence.CERTAIN,
    named: bool = True,
) -> Finding:
    usual, often = Counter(held.values()).most_common(1)[0]
    departed = (
        sorted(rank for rank, value in held.items() if value != usual) if 2 * often > len(held) else sorted(set(told) & set(held))
    )
    departed = departed if named else []
    shown = "; ".join(f"{value[:200]} on rank {_listed(held, value)}" for value in dict.fromkeys(held.values()))
    return RULE.finding(
        subject,
        f"{words}{shown}.",
        evidence={"values": {str(rank): value for rank, value in list(held.items())[:64]}, "departed": departed},
        location=Location(step=step, rank=departed[0] if len(departed) == 1 else None),
        severity=severity,
        confidence=confidence,
        remedy=REMEDY,
    )


def _listed(held: Mapping[int, str], value: str) -> str:
    ranks = [str(rank) for rank, other in sorted(held.items()) if other == value]
    return ", ".join(ranks[:8]) + ("…" if len(ranks) > 8 else "")


def _first_difference(every: list[Groups]) -> tuple[int, str]:
    for index in range(max(map(len, every))):
        groups = [dict(of[index]) if index < len(of) else {} for of in every]
        for name in sorted({name for group in groups for name in group}):
            if len({group.get(name) for group in groups}) > 1:
                return index, name
    return 0, "groups"


def _shared_arguments(arguments: list[str]) -> list[str]:
    """*arguments* without those that name a rank or a device, and without what follows such a name."""
    kept: list[str] = []
    of_one_rank = False
    for text in map(str, arguments):
        option = text.startswith("-")
        if option:
            of_one_rank = bool(OF_ONE_RANK.search(text.partition("=")[0]))
        if not of_one_rank:
            kept.append(text)
        of_one_rank = of_one_rank and option and "=" not in text
    return kept
