"""Rule `package-modified`: an installed file is not what its distribution's own RECORD says, or is missing.

pip has no verifier of its own. Files that RECORD lists without a hash (bytecode, RECORD itself) are not judged here:
bytecode is `bytecode-modified`'s matter. Whoever can edit a file can edit RECORD too; `package-drift` compares that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from truerun.core.actor import Actor, Basis
from truerun.core.digest import Digest
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="package-modified",
    summary="an installed file differs from the one its distribution recorded",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0010.001",
)
_RUNS = (".py", ".so", ".pyd", ".dll", ".dylib", ".pth")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModifiedFile:
    """
    One installed file that does not match its RECORD.

    `path` is relative to site-packages; `observed` is None when the file is missing or (with `problem`) unreadable;
    `line` is the first differing line where an untouched copy is known; `written` is the file's last modification as it
    claims itself (RFC 3339), and `owner` the account it belongs to.
    """

    distribution: str
    version: str
    path: str
    expected: Digest
    observed: Digest | None
    line: int | None = None
    problem: str | None = None
    written: str | None = None
    owner: str | None = None


def check_files(modified: Iterable[ModifiedFile]) -> tuple[Finding, ...]:
    """One finding for each file; a missing file that no program would run is a note."""
    return tuple(_finding(file) for file in modified)


def _finding(file: ModifiedFile) -> Finding:
    package = f"{file.distribution} {file.version}"
    at = f"{file.path}:{file.line}" if file.line else file.path
    if file.problem:
        said = f"{at} of {package} cannot be read: {file.problem}"
    elif file.observed is None:
        said = f"{at} of {package} is missing"
    else:
        when = f" (last written {file.written})" if file.written else ""
        said = f"{at} was edited after {package} was installed: its hash is not the one in RECORD{when}"
    runs = file.path.endswith(_RUNS)
    return RULE.finding(
        Subject(kind="environment", name=file.distribution, key=file.path),
        f"{said}. Reinstall the package; look at what was changed first if the cause is not known.",
        severity=Severity.ERROR if runs else Severity.WARNING if file.observed else Severity.NOTE,
        evidence={
            "version": file.version,
            "declared": file.expected.render(),
            "observed": file.observed.render() if file.observed else None,
            "written": file.written,
        },
        location=Location(path=file.path, line=file.line),
        actor=Actor(id=file.owner, basis=Basis.FILESYSTEM) if file.owner else None,
        remedy=f"pip install --force-reinstall --no-deps {file.distribution}=={file.version}",
    )
