"""Rule `library-preload`: the dynamic linker is told to load something before the program's own libraries.

A preloaded library can replace any C function, torch's included. Allocators are preloaded in earnest; lock the variable
(`[environment] variables = ["LD_PRELOAD"]`) and its approved value is no finding. Source: ld.so(8).
"""

from __future__ import annotations

from collections.abc import Mapping

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="library-preload",
    summary="a library is loaded before all others, from outside the approved environment",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0010.001",
)
VARIABLES = ("LD_PRELOAD", "LD_AUDIT")
PRELOAD_FILE = "/etc/ld.so.preload"


def check_preload(variables: Mapping[str, str], locked: Mapping[str, str | None], preload_file: str = "") -> tuple[Finding, ...]:
    """One finding for each library that is preloaded by a variable whose value is not the locked one, or by the system's file."""
    findings = []
    for name in VARIABLES:
        value = variables.get(name, "")
        if value and locked.get(name) != value:
            findings += [_finding(name, library) for library in value.replace(":", " ").split()]
    findings += [_finding(PRELOAD_FILE, library) for library in preload_file.split()]
    return tuple(findings)


def _finding(origin: str, library: str) -> Finding:
    return RULE.finding(
        Subject(kind="environment", name=origin, key=library),
        f"{origin} loads {library} into every program before its own libraries; it can replace any function. "
        "Unset it, or declare the variable under [environment] variables and have its value approved.",
        evidence={"declared": None, "observed": library},
        location=Location(path=library),
        remedy=f"unset {origin}" if origin in VARIABLES else f"remove the line from {origin}",
    )
