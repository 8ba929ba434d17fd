"""Rule `startup-injection`: something makes Python run code before the training script's first line, and nobody recorded it.

Looks at `.pth` files whose lines import (site.py runs them), `sitecustomize` and `usercustomize`, PYTHONSTARTUP, and
folders on PYTHONPATH whose modules stand in for the standard library or installed ones. A `.pth` that a distribution's
RECORD covers with its hash, one that only adds folders, and files that the approved lock lists are not findings. Source: docs.python.org, module `site`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from truerun.core.digest import Digest
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
class StartupFile:
    """
    A `.pth` file, sitecustomize or usercustomize.

    `name` is the same in every environment (`zz.pth`, `sitecustomize/__init__.py`). `owner` is the distribution whose
    RECORD lists exactly these bytes, else None.
    """

    path: str
    name: str
    text: str
    digest: Digest
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """
    What Python would meet at start-up.

    `custom` are sitecustomize and usercustomize modules that would be imported; `bundled` paths of those that came with
    the interpreter itself; `shadows` are pairs of a file on PYTHONPATH and the module it stands in for; `startup` is the
    value of PYTHONSTARTUP.
    """

    path_files: tuple[StartupFile, ...] = ()
    custom: tuple[StartupFile, ...] = ()
    bundled: tuple[str, ...] = ()
    shadows: tuple[tuple[str, str], ...] = ()
    startup: str | None = None

    @property
    def unrecorded(self) -> tuple[StartupFile, ...]:
        """The files that run code and that no distribution accounts for."""
        files = (*(file for file in self.path_files if import_lines(file.text)), *self.custom)
        return tuple(file for file in files if file.owner is None)


def check_startup(startup: Startup, approved: Mapping[str, Digest] | None = None) -> tuple[Finding, ...]:
    """One finding for each place that runs code at start-up, that nothing accounts for and that is not *approved* by digest."""
    known = approved or {}
    return (
        *(found for file in startup.unrecorded if known.get(file.name) != file.digest for found in _file(file)),
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


def _file(file: StartupFile) -> Iterator[Finding]:
    if not file.name.endswith(".pth"):
        said = f"{file.path} runs at the start of every Python process, and no installed distribution accounts for it"
        yield _finding(file.path, said, None)
        return
    for number, line in import_lines(file.text)[:5]:
        shown = line if len(line) <= 80 else line[:77] + "..."
        said = f"{file.path}:{number} runs at the start of every Python process, and no RECORD covers it: {shown}"
        yield _finding(file.path, said, None, line=number)


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
        f"{said}. Remove it, or have it approved with the next lock.",
        severity=severity,
        evidence={"path": path, "entry": key},
        location=Location(path=path, line=line),
        remedy=remedy or f"read {path}, then remove it",
    )
