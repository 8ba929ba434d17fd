"""`truerun run -- CMD…`: admission, then the command, watched; the command's own output stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from truerun.apps.cli.output import options

if TYPE_CHECKING:
    from truerun.apps.running import RunReport
    from truerun.core.decision import Decision
    from truerun.core.finding import Finding

LEVELS = ("note", "warning", "error", "critical")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--mode", type=click.Choice(["observe", "enforce"]), help="Report only, or hold and fail; default by [project] critical."
)
@click.option(
    "--fail-on", type=click.Choice(LEVELS), help="Exit with 1 from this level on; default: error when enforcing, else never."
)
@click.option("--output", type=click.Path(dir_okay=False), help="Write the result as JSON to this file.")
@click.option("--run-id", help="A name for the run; default: the date and a random part.")
@click.option("--against", help="The earlier run to compare with; default: the newest that passed.")
@click.option("--key", type=click.Path(dir_okay=False), help="The SSH key to sign with.")
@click.argument("command_line", metavar="-- CMD...", nargs=-1, type=click.UNPROCESSED, required=True)
@options
def command(
    command_line: tuple[str, ...],
    output: str | None,
    output_format: str,
    config_path: str | None,
    *,
    quiet: bool,
    verbose: bool,
    **how: Any,
) -> int:
    """Check what the command will use, run it, watch every training step, record it all."""
    from truerun.apps.cli.output import Some, say_json
    from truerun.apps.project import open_project
    from truerun.apps.running import RunRequest, run
    from truerun.core.run import Mode

    project = open_project(config_path)
    least = 1 if quiet else 0

    some = Some(everything=verbose, err=True)

    def tell(finding: Finding) -> None:
        if finding.severity.rank >= least:
            some.show(finding)

    report = run(
        project,
        RunRequest(
            command=command_line,
            cwd=Path.cwd(),
            mode=Mode(how["mode"]) if how["mode"] else None,
            run=how["run_id"],
            against=how["against"],
            key=how["key"],
            on_finding=tell,
        ),
    )
    some.show_rest()
    if output:
        _write(Path(output), report)
    if output_format == "json":
        say_json(report.result)
    elif not quiet:
        show_end(report, verbose=verbose)
    elif report.result.verdict.value == "held":
        _show_held(report)
    return _exit_code(report, how["fail_on"])


def _write(path: Path, report: RunReport) -> None:
    from truerun.adapters.files import write_whole
    from truerun.core.codec import to_json

    text = json.dumps(to_json(report.result), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    write_whole(path, lambda stream: stream.write(text.encode()))


def _exit_code(report: RunReport, fail_on: str | None) -> int:
    from truerun.core.finding import Severity, worst
    from truerun.core.run import Mode, Verdict

    result = report.result
    highest = worst(result.findings)
    level = Severity(fail_on) if fail_on else (Severity.ERROR if result.mode is Mode.ENFORCE else None)
    if result.verdict is Verdict.HELD:
        return 4
    if level is not None and highest is not None and highest.rank >= level.rank:
        return 1
    if result.mode is Mode.OBSERVE:
        return result.command_exit or 0
    if result.command_exit:
        return 1
    return 3 if result.verdict is Verdict.COULD_NOT_TELL else 0


def show_end(report: RunReport, *, verbose: bool = False, recorded: bool = True) -> None:
    """Say on standard error what the run came to, and where to read on if it was *recorded*."""
    from truerun.apps.cli.output import escape, say
    from truerun.core.run import Verdict

    result = report.result
    if result.verdict is Verdict.HELD:
        _show_held(report)
        return
    color = {"pass": "green", "fail": "red"}.get(result.verdict.value, "yellow")
    parts = [f"run {escape(result.run)}: {result.verdict.value}", f"{result.steps} steps", _count(len(result.findings))]
    parts += [f"{escape(name)} {value:.6g}" for name, value in list(result.metrics.items())[:6]]
    if result.command_exit is None:
        parts.append("not started")
    elif result.command_exit:
        parts.append(f"the command ended with {result.command_exit}")
    say("truerun: " + " · ".join(parts), err=True, fg=color, bold=True)
    if report.decision is not None and report.decision.needs:
        say(f"  not approved: lock {report.decision.lock.short}", err=True, fg="yellow")
        _show_needs(report.decision)
    if verbose and report.outcome is not None:
        say(f"  watching cost {result.overhead.seconds:.2f} s ({result.overhead.fraction:.1%})", err=True)
    if result.verdict is not Verdict.PASS and recorded:
        say(f"  next: truerun show {escape(result.run)}", err=True)


def _show_held(report: RunReport) -> None:
    from truerun.apps.cli.output import escape, say

    say(f"truerun: run {escape(report.result.run)} is held and was not started", err=True, fg="yellow", bold=True)
    decision = report.decision
    if decision is None:
        return
    for reason in decision.reasons:
        say(f"  {escape(reason)}", err=True)
    _show_needs(decision)
    say(f"  how: truerun approve {decision.lock.short}", err=True)


def _show_needs(decision: Decision) -> None:
    from truerun.apps.cli.output import escape, say

    for need in decision.needs:
        say(f"  needed: {escape(need.what)}" + (f" (who can: {escape(', '.join(need.who))})" if need.who else ""), err=True)


def _count(findings: int) -> str:
    return "nothing found" if not findings else f"{findings} finding{'s' if findings > 1 else ''}"
