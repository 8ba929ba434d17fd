"""Rule `package-drift`: an installed distribution, or Python itself, is not the one in the approved lock.

Compares versions and the digest of each RECORD. Whether the files are those of the RECORD is `package-modified`'s matter.
"""

from __future__ import annotations

from collections.abc import Iterable

from truerun.core.change import Action, Change, ChangeKind
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.reference import Reference, shown

RULE = Rule(
    id="package-drift",
    summary="an installed distribution is not the one that was approved",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0010.001",
)


def check_packages(changes: Iterable[Change], reference: Reference) -> tuple[Finding, ...]:
    """One finding for each distribution that was added, removed, replaced by another version or built anew."""
    return tuple(
        _finding(change, reference)
        for change in changes
        if change.kind is ChangeKind.ENVIRONMENT and change.name != "environ" and change.key != "startup"
    )


def _finding(change: Change, reference: Reference) -> Finding:
    name = change.name
    if change.action is Action.ADDED:
        said = f"{name} {shown(change.after)} is installed; the lock that {reference.since} does not have it"
    elif change.action is Action.REMOVED:
        said = f"{name} {shown(change.before)} {reference.since} and is not installed any more"
    elif change.key == "RECORD":
        locked = reference.lock.environment.packages.get(name)
        version = f"{name} {locked.version}" if locked else name
        said = f"{version} has the version that {reference.since}, but another list of files (RECORD)"
    else:
        said = f"{name} is {shown(change.after)}; {shown(change.before)} {reference.since}"
    wanted = f"{name}=={change.before}" if change.key is None and isinstance(change.before, str) else name
    restore = "use the interpreter that was approved" if name == "python" else f"pip install --force-reinstall {wanted}"
    return RULE.finding(
        Subject(kind="environment", name=name, key=change.key),
        f"{said}. Install what was approved, or have this approved.",
        evidence={"declared": change.before, "observed": change.after, "change": change.id},
        location=Location(path=change.path),
        actor=change.actor,
        remedy=f"{restore}, or {reference.remedy}",
    )
