"""Rule `environment-variable`: a variable that the code reads has another value now than when the lock was approved.

Sees what is read by name with the standard library (`os.environ["LR"]`, `os.environ.get("LR")`, `os.getenv("LR")`,
`"LR" in os.environ`). Does not see names that are computed; declare those under `[environment] variables`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from truerun.core.change import Change, ChangeKind
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.reference import Reference, shown

RULE = Rule(
    id="environment-variable",
    summary="an environment variable that the code reads has another value than when the lock was approved",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableRead:
    """One place in the code that reads an environment variable by name."""

    name: str
    path: str
    line: int


def check_variables(changes: Iterable[Change], reference: Reference, reads: Sequence[VariableRead]) -> tuple[Finding, ...]:
    """One finding for each variable whose value changed, at the place that reads it."""
    places: Mapping[str, VariableRead] = {read.name: read for read in reversed(reads)}
    return tuple(
        _finding(change, reference, places.get(change.key or ""))
        for change in changes
        if change.kind is ChangeKind.ENVIRONMENT and change.name == "environ" and change.key
    )


def _finding(change: Change, reference: Reference, read: VariableRead | None) -> Finding:
    now = "not set" if change.after is None else shown(change.after)
    before = "unset" if change.before is None else shown(change.before)
    where = f" {read.path}:{read.line} reads it." if read else ""
    return RULE.finding(
        Subject(kind="config", name="environment", key=change.key),
        f"the environment variable {change.key} is {now}; it was {before} in the lock that {reference.since}.{where} "
        "Set it back, or lock the new value and have it approved.",
        evidence={"declared": change.before, "observed": change.after, "change": change.id},
        location=Location(path=read.path, line=read.line) if read else Location(),
        actor=change.actor,
        remedy=f"unset {change.key}" if change.before is None else f"export {change.key}={change.before}",
    )


def find_reads(source: str, path: str) -> tuple[VariableRead, ...]:
    """Every environment variable that the Python text *source* reads by name; none where it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # What does not parse does not run; the code rules name the file.
        return ()
    return tuple(VariableRead(name=name, path=path, line=line) for name, line in _names(tree))


def _names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        key: ast.expr | None = None
        if isinstance(node, ast.Subscript) and _is_environ(node.value):
            key = node.slice
        elif isinstance(node, ast.Call) and node.args and _reads(node.func):
            key = node.args[0]
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
            key = node.left if _is_environ(node.comparators[0]) else None
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value, key.lineno


def _is_environ(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb")) or (
        isinstance(node, ast.Name) and node.id in ("environ", "environb")
    )


def _reads(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr == "getenv" or (function.attr in ("get", "pop", "setdefault") and _is_environ(function.value))
    return isinstance(function, ast.Name) and function.id == "getenv"
