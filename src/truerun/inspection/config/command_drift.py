"""Rule `command-drift`: the command line that is about to run is not the declared one, argument by argument.

A value given on the command line overrides a file that nobody touched. Paths of the interpreter are not compared:
`python`, `python3` and `/somewhere/.venv/bin/python` are one program here; what is in it is the matter of the
environment rules.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.reference import Reference

RULE = Rule(
    id="command-drift",
    summary="the command line differs from the approved one",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)
_INTERPRETER = re.compile(r"(?:.*/)?python(?:3(?:\.\d+)?)?")


def check_command(given: Sequence[str], reference: Reference, declaration_path: str) -> tuple[Finding, ...]:
    """A finding that names each differing argument, or none."""
    declared = split_command(reference.lock.command)
    observed = _plain(list(given))
    if declared == observed:
        return ()
    differences = _differences(declared, observed)
    return (
        RULE.finding(
            Subject(kind="config", name=declaration_path, key="project.command"),
            f"the command line is not the one that {reference.since}: {'; '.join(differences)}. "
            "Run the declared command, or declare this one and have it approved.",
            evidence={"declared": shlex.join(declared), "observed": shlex.join(observed), "differences": differences},
            location=Location(path=declaration_path),
            remedy=f"truerun run -- {shlex.join(declared)}",
        ),
    )


def split_command(command: str) -> list[str]:
    """*command* as words, the way a shell would split it, with the interpreter's name made plain."""
    try:
        return _plain(shlex.split(command))
    except ValueError:
        # An unclosed quote: not a command a shell would run, so it equals nothing that was.
        return [command]


def _plain(words: list[str]) -> list[str]:
    return ["python", *words[1:]] if words and _INTERPRETER.fullmatch(words[0]) else words


def _differences(declared: list[str], observed: list[str]) -> list[str]:
    found = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, declared, observed, autojunk=False).get_opcodes():
        before, after = shlex.join(declared[a:b]), shlex.join(observed[c:d])
        if tag == "replace":
            found.append(f"{after} instead of {before}")
        elif tag == "insert":
            found.append(f"{after} added")
        elif tag == "delete":
            found.append(f"{before} left out")
    return found
