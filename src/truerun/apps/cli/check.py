"""`truerun check`: inspect data, config, code, environment, weights and outputs without a run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from truerun.apps.cli.output import options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from truerun.apps.inspecting import KindReport

KINDS = ("data", "config", "code", "environment", "weights", "outputs")
LEVELS = ("note", "warning", "error", "critical")


@click.command()
@click.argument("kinds", metavar="[KIND]...", nargs=-1, type=click.Choice(KINDS))
@click.option(
    "--fail-on", type=click.Choice(LEVELS), default="error", show_default=True, help="Exit with 1 from this severity on."
)
@options
def command(
    kinds: tuple[str, ...], fail_on: str, output_format: str, config_path: str | None, *, quiet: bool, verbose: bool
) -> int:
    """
    Inspect without a run: data, config, code, environment, weights, outputs (default: all).

    Compares with the approved lock, or with the newest proposed one where nothing has been approved yet. Loads no
    checkpoint, imports nothing of the project, executes nothing.
    """
    from truerun.apps.cli.output import say, say_json
    from truerun.apps.inspecting import KindReport, find_reference, inspect_kinds
    from truerun.apps.locking import resolve
    from truerun.apps.project import open_project

    project = open_project(config_path)
    progress, clear = _progress(shown=not quiet and output_format == "text" and sys.stderr.isatty())
    progress("locking")
    reference = find_reference(project)
    resolved = resolve(project)
    reports = inspect_kinds(project, resolved, reference, kinds or KINDS, progress=progress)
    if project.declaration.outputs is None and "outputs" in (kinds or KINDS):
        reports += (KindReport(kind="outputs", looked_at="none declared"),)
    elif "outputs" in (kinds or KINDS):
        from truerun.apps.judging_outputs import inspect_outputs

        reports += (inspect_outputs(project, asked="outputs" in kinds),)
    clear()
    code = _exit_code(reports, fail_on)
    if output_format == "json":
        say_json(
            {
                "schema": 1,
                "lock": resolved.lock.digest,
                "reference": None
                if reference is None
                else {
                    "lock": reference.lock.digest,
                    "entry": reference.entry,
                    "at": reference.at,
                    "approved": reference.approved,
                },
                "kinds": {
                    report.kind: {"looked_at": report.looked_at, "could_not_tell": report.could_not_tell} for report in reports
                },
                "findings": [finding for report in reports for finding in report.findings],
            }
        )
    else:
        _show(reports, quiet=quiet, verbose=verbose)
        if reference is not None and not quiet:
            say(f"compared with lock {reference.lock.digest.short}, which {reference.since}")
    return code


def _exit_code(reports: Sequence[KindReport], fail_on: str) -> int:
    """1 for findings from *fail_on* up, else 3 when a kind could not be inspected, else 0."""
    from truerun.core.finding import Severity

    least = Severity(fail_on).rank
    if any(finding.severity.rank >= least for report in reports for finding in report.findings):
        return 1
    return 3 if any(report.could_not_tell for report in reports) else 0


def _show(reports: Sequence[KindReport], *, quiet: bool, verbose: bool) -> None:
    """Findings first, worst first; then a line for each kind."""
    from truerun.apps.cli.output import escape, say, show_findings
    from truerun.core.finding import Severity

    findings = [finding for report in reports for finding in report.findings]
    least = Severity.WARNING.rank if quiet or not verbose else 0
    show_findings([finding for finding in findings if finding.severity.rank >= least])
    if quiet:
        return
    for report in reports:
        looked_at = f" ({report.looked_at})" if report.looked_at else ""
        if report.could_not_tell is not None:
            say(f"{report.kind}: could not tell{escape(looked_at)}: {escape(report.could_not_tell)}", fg="yellow")
            continue
        if report.findings:
            say(f"{report.kind}: {_counted(report)}{escape(looked_at)}", fg="red" if _bad(report) else None)
        else:
            say(f"{report.kind}: no findings{escape(looked_at)}", fg="green")
    notes = sum(finding.severity.rank < least for finding in findings)
    if notes:
        say(f"{notes} notes are shown with -v")


def _bad(report: KindReport) -> bool:
    return any(finding.severity.rank > 0 for finding in report.findings)


def _counted(report: KindReport) -> str:
    """`2 errors, 1 note`, worst first."""
    from collections import Counter

    from truerun.core.finding import Severity

    counts = Counter(finding.severity for finding in report.findings)
    levels = [level for level in reversed(Severity) if counts[level]]
    return ", ".join(f"{counts[level]} {level.value}{'' if counts[level] == 1 else 's'}" for level in levels)


def _progress(*, shown: bool) -> tuple[Callable[[str], None], Callable[[], None]]:
    """One line on the terminal that says what is being looked at, and how to take it away again."""
    from truerun.apps.cli.output import escape

    if not shown:
        return (lambda _: None), (lambda: None)

    def tell(what: str) -> None:
        sys.stderr.write(f"\r\x1b[Kchecking {escape(what)[:60]} ")
        sys.stderr.flush()

    def clear() -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    return tell, clear
