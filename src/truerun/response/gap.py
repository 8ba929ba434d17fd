"""The protocol gap: which check or approval was absent, bypassed or passed, the entry that shows it, and what would close it.

Speaks of rules and settings, never of people's care. It knows the built-in policy and the declaration only; a rule that a
team follows outside of Truerun is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from truerun.core.actor import Person, Role
from truerun.core.change import Change, ChangeKind
from truerun.core.decision import Answer
from truerun.core.fact import LockDecided, LockProposed
from truerun.core.finding import Finding, Severity
from truerun.core.incident import Control, Gap
from truerun.core.run import Mode
from truerun.ledger.history import Recorded
from truerun.response.evidence import Evidence

SERIOUS = Severity.ERROR.rank


def find_gaps(evidence: Evidence) -> tuple[Gap, ...]:
    """Every gap that the run went through, the ones that would have stopped it first."""
    proposed = [(suspect.change, evidence.proposal_of(suspect)) for suspect in evidence.convicted()]
    placed = [_Placed(change, record) for change, record in proposed if record is not None]
    found = [*_admission(evidence), *_approvals(evidence, placed)]
    for change, _ in proposed:
        found += _checks(evidence, change)
    return tuple(dict.fromkeys((*found, *_gate(evidence))))


class _Placed(NamedTuple):
    """A convicted change and the entry that proposed it."""

    change: Change
    proposal: Recorded[LockProposed]


def _admission(evidence: Evidence) -> Iterator[Gap]:
    started, declaration = evidence.run.started, evidence.declaration
    command = declaration.project.command
    if not declaration.project.critical:
        yield Gap(
            rule="admission",
            control=Control.ABSENT,
            explanation="The project is not declared critical, so a run starts whatever was approved; what is missing is only reported.",
            setting="truerun.toml: [project] critical = true",
            entry=started.index,
        )
    if started.fact.mode is Mode.OBSERVE:
        yield Gap(
            rule="admission",
            control=Control.BYPASSED if declaration.project.critical else Control.ABSENT,
            explanation=f"Run {started.fact.run} was started to observe: it reports findings and stops for none.",
            setting=f"truerun run --mode enforce -- {command}",
            entry=started.index,
        )


def _approvals(evidence: Evidence, placed: list[_Placed]) -> Iterator[Gap]:
    unprotected = [item for item in placed if not item.change.protected]
    protected = [item for item in placed if item.change.protected]
    if unprotected:
        yield Gap(
            rule="protected inputs",
            control=Control.ABSENT,
            explanation=f"{_titles(unprotected)} needed nobody's approval, because it is not a protected input.",
            setting='truerun.toml: [config] protected = ["*"]',
            entry=unprotected[0].proposal.index,
        )
    alone = [item for item in protected if not _answers(evidence, item, Answer.APPROVE)]
    if alone:
        locks = tuple(dict.fromkeys(item.proposal.fact.lock.short for item in alone))
        yield Gap(
            rule="approval",
            control=Control.ABSENT,
            explanation=f"Nobody but the author had approved {_titles(alone)} when the run started.",
            setting="; ".join(
                f"truerun diff approved {lock}, then truerun approve {lock} or truerun reject {lock}" for lock in locks
            ),
            entry=alone[0].proposal.index,
        )
    yield from _mentors(evidence, protected)
    yield from _rejected(evidence, protected)
    yield from _passed(evidence, protected)


def _mentors(evidence: Evidence, placed: list[_Placed]) -> Iterator[Gap]:
    waiting: dict[str, list[_Placed]] = {}
    for item in placed:
        author = _author(evidence, item)
        mentor = author.mentor if author is not None and author.role is Role.TRAINEE else None
        if mentor is not None and mentor not in _answers(evidence, item, Answer.APPROVE):
            waiting.setdefault(mentor, []).append(item)
    for mentor, items in waiting.items():
        yield Gap(
            rule="mentor's approval",
            control=Control.ABSENT,
            explanation=f"{_titles(items)} {'was' if len(items) == 1 else 'were'} proposed by a trainee, and the mentor, {mentor}, had not answered.",
            setting=f"truerun.toml: [project] critical = true; the run then waits for {mentor} to sign: truerun approve LOCK",
            entry=items[0].proposal.index,
        )


def _rejected(evidence: Evidence, placed: list[_Placed]) -> Iterator[Gap]:
    for item in placed:
        for who, record in _answers(evidence, item, Answer.REJECT).items():
            lock = record.fact.lock.short
            yield Gap(
                rule="approval",
                control=Control.BYPASSED,
                explanation=f"{who} rejected lock {lock}, which holds {item.change.title()}, and a run used it all the same.",
                setting="truerun.toml: [project] critical = true",
                entry=record.index,
            )


def _passed(evidence: Evidence, placed: list[_Placed]) -> Iterator[Gap]:
    by_approvals: dict[tuple[tuple[int, str], ...], list[_Placed]] = {}
    for item in placed:
        yes = _answers(evidence, item, Answer.APPROVE)
        if yes:
            by_approvals.setdefault(tuple(sorted((record.index, who) for who, record in yes.items())), []).append(item)
    for approvals, items in by_approvals.items():
        names = " and ".join(f"{who} (entry {index})" for index, who in approvals)
        yield Gap(
            rule="approval",
            control=Control.PASSED,
            explanation=f"{names} approved a lock that holds {_titles(items)}: what an approver is shown did not make its effect visible.",
            setting="before approving: truerun check data, then a run of that lock: truerun run and truerun show RUN",
            entry=approvals[0][0],
        )


def _author(evidence: Evidence, item: _Placed) -> Person | None:
    return evidence.people.resolve(item.proposal.key, item.proposal.index)


def _answers(evidence: Evidence, item: _Placed, answer: Answer) -> dict[str, Recorded[LockDecided]]:
    """
    Who but the author had given *answer* as their last word when the run started, to the lock that brought the change or a later one.

    An approver is shown everything since the last approved lock, so a yes to a later lock is a yes to what it holds.
    """
    author = _author(evidence, item)
    holding = evidence.locks_since(item.proposal)
    given: dict[str, Recorded[LockDecided]] = {}
    for record in evidence.history.decisions:
        person = evidence.people.resolve(record.key, record.index)
        if record.fact.lock in holding and person is not None and person != author and record.index < evidence.run.started.index:
            given[person.id] = record
    return {who: record for who, record in given.items() if record.fact.answer is answer}


def _titles(items: list[_Placed]) -> str:
    return " and ".join(f"{item.change.title()} (entry {item.proposal.index})" for item in items)


def _checks(evidence: Evidence, change: Change) -> Iterator[Gap]:
    about = [finding for finding in evidence.findings if _concerns(finding, change)]
    started = evidence.run.started.index
    serious = [finding for finding in about if finding.severity.rank >= SERIOUS]
    if serious:
        names = ", ".join(sorted({finding.rule for finding in serious}))
        where = next((finding.location.entry for finding in serious if finding.location.entry is not None), started)
        yield Gap(
            rule=names,
            control=Control.BYPASSED,
            explanation=f"The check found {change.title()} and the run went on, because findings were only reported.",
            setting="truerun run --mode enforce (or --fail-on error)",
            entry=where,
        )
    elif about:
        names = ", ".join(sorted({finding.rule for finding in about}))
        yield Gap(
            rule=names,
            control=Control.PASSED,
            explanation=f"The check saw {change.title()} and rated it below error.",
            setting="truerun run --fail-on warning",
            entry=started,
        )
    else:
        yield _unseen(evidence, change, started)


def _unseen(evidence: Evidence, change: Change, entry: int) -> Gap:
    section = evidence.declaration.data.get(change.name) if change.kind is ChangeKind.DATA else None
    if section is not None and section.label is None:
        words, setting = "no label column is declared, so labels are not compared", f'[data.{change.name}] label = "…"'
    elif section is not None and section.contributor is None:
        words = "no contributor column is declared, so rows are not compared by who added them"
        setting = f'[data.{change.name}] contributor = "…"'
    elif change.kind is ChangeKind.CONFIG and not evidence.declaration.training:
        words = "the declaration does not say what the training's hyperparameters are, so no check knows this value's range"
        setting = f'[training] {(change.key or "lr").rsplit(".", 1)[-1]} = "config:{change.key}"'
    else:
        return Gap(
            rule="checks at rest",
            control=Control.PASSED,
            explanation=f"Every declared check ran and none found anything in {change.title()}; only the metric showed it.",
            setting="approve changes of this kind only after a run: truerun run, then truerun show RUN",
            entry=entry,
        )
    return Gap(
        rule="checks at rest",
        control=Control.ABSENT,
        explanation=f"No check found anything in {change.title()}: {words}.",
        setting=f"truerun.toml: {setting}",
        entry=entry,
    )


def _gate(evidence: Evidence) -> Iterator[Gap]:
    declaration = evidence.declaration
    if declaration.outputs is None:
        yield Gap(
            rule="outputs gate",
            control=Control.ABSENT,
            explanation="No outputs are declared, so nothing compares who is worse off.",
            setting='truerun.toml: [outputs] predictions = "…"',
            entry=evidence.run.started.index,
        )
    if not declaration.metrics:
        yield Gap(
            rule="declared metric",
            control=Control.ABSENT,
            explanation="No metric is declared, so no run counts as worse than another.",
            setting="truerun.toml: [metrics.NAME] tolerance = …",
            entry=evidence.run.started.index,
        )


def _concerns(finding: Finding, change: Change) -> bool:
    if finding.subject.kind != change.kind.value:
        return False
    names = {change.name, change.path}
    same = finding.subject.name in names or finding.location.path in names
    if change.kind is ChangeKind.DATA:
        said = finding.actor.id if finding.actor is not None else finding.evidence.get("contributor")
        return same and change.key in (None, said)
    return same and change.key in (None, finding.subject.key)
