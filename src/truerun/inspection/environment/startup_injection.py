"""Rule `startup-injection`: something makes Python run code before the training script's first line, and nobody recorded it.

Looks at `.pth` files whose lines import (site.py runs them), `sitecustomize` and `usercustomize`, PYTHONSTARTUP, and
folders on PYTHONPATH whose modules stand in for the standard library or installed ones. A `.pth` that a distribution's
RECORD covers with its hash, and one that only adds folders, are not findings. Source: docs.python.org, module `site`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="startup-injection",
    summary="Python would run code at start-up that no installed distribution accounts for",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0010.001",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFile:
    """A `.pth` file. `owner` is the distribution whose RECORD lists exactly these bytes, else None."""

    path: str
    text: str
    owner: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """
    What Python would meet at start-up.

    `customized` are paths of `sitecustomize` and `usercustomize` modules or packages that would be imported and that no
    RECORD covers; `bundled` those that came with the interpreter itself; `shadows` are pairs of a file on PYTHONPATH and
    the module it stands in for; `startup` is the value of PYTHONSTARTUP.
    """

    path_files: tuple[PathFile, ...] = ()
    customized: tuple[str, ...] = ()
    bundled: tuple[str, ...] = ()
    shadows: tuple[tuple[str, str], ...] = ()
    startup: str | None = None


def check_startup(startup: Startup) -> tuple[Finding, ...]:
    """One finding for each place that runs code at start-up and that nothing accounts for."""
    return (
        *_path_files(startup.path_files),
        *(
            _finding(
                path, f"{path} runs at the start of every Python process, and no installed distribution accounts for it", None
            )
            for path in startup.customized
        ),
        *(
            _finding(path, f"{path} came with the interpreter and runs at start-up", None, severity=Severity.NOTE)
            for path in startup.bundled
        ),
        *(
            _finding(path, f"{path} is found on PYTHONPATH before the module {module} that it stands in for", module)
            for path, module in startup.shadows
        ),
        *([] if startup.startup is None else [_startup_variable(startup.startup)]),
    )


def import_lines(text: str) -> list[tuple[int, str]]:
    """The lines of a `.pth` file that site.py executes: those that begin with `import` and a space or tab."""
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.startswith(("import ", "import\t"))]


def _path_files(files: Iterable[PathFile]) -> list[Finding]:
    findings = []
    for file in files:
        lines = import_lines(file.text) if file.owner is None else []
        for number, line in lines[:5]:
            shown = line if len(line) <= 80 else line[:77] + "..."
            said = f"{file.path}:{number} runs at the start of every Python process, and no RECORD covers it: {shown}"
            findings.append(_finding(file.path, said, None, line=number))
    return findings


def _startup_variable(value: str) -> Finding:
    return _finding(
        value,
        f"PYTHONSTARTUP names {value}; interactive interpreters run it",
        "PYTHONSTARTUP",
        severity=Severity.WARNING,
        remedy="unset PYTHONSTARTUP",
    )


def _finding(
    path: str,
    said: str,
    key: str | None,
    *,
    line: int | None = None,
    severity: Severity | None = None,
    remedy: str | None = None,
) -> Finding:
    return RULE.finding(
        Subject(kind="environment", name=path, key=key),
        f"{said}. Remove it, or install it as part of a distribution and have that approved.",
        severity=severity,
        evidence={"path": path, "entry": key},
        location=Location(path=path, line=line),
        remedy=remedy or f"read {path}, then remove it",
    )
