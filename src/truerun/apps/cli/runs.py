"""`truerun runs`: every run in the ledger, newest last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from truerun.apps.cli.output import options

if TYPE_CHECKING:
    from truerun.ledger.history import RunHistory
    from truerun.oversight.people import People

MAX_METRICS = 3


@click.command()
@click.option("--last", type=click.IntRange(min=1), help="Only the newest N.")
@options
def command(last: int | None, output_format: str, config_path: str | None, *, quiet: bool, verbose: bool) -> int:
    """List runs: what each came to, who started it, with which lock."""
    from truerun.apps.cli.output import escape, say, say_json
    from truerun.apps.project import open_project

    project = open_project(config_path)
    people = project.people()
    ordered = sorted(project.history().runs.values(), key=lambda run: run.started.index)[-last if last else 0 :]
    rows = [_row(run, people) for run in ordered]
    if output_format == "json":
        say_json({"schema": 1, "runs": rows})
        return 0
    if not rows and not quiet:
        say("no runs yet; truerun run -- CMD makes one")
    for row in rows:
        metrics = "  ".join(f"{escape(name)} {value:.4g}" for name, value in list(row["metrics"].items())[:MAX_METRICS])
        lock = (row["lock"] or "no lock").partition(":")[2][:12] or "no lock"
        purpose = "" if row["purpose"] == "run" else f"  ({escape(row['purpose'])})"
        say(
            f"{escape(row['run']):<28} {row['verdict']:<14} {row['mode']:<8} {row['steps']:>7} steps  {lock:<12}  "
            f"{escape(row['who']):<14} {row['at']}  {metrics}{purpose}"
        )
    return 0


def _row(run: RunHistory, people: People) -> dict[str, Any]:
    started, finished = run.started.fact, run.finished.fact if run.finished is not None else None
    person = people.resolve(run.started.key, run.started.index)
    return {
        "run": run.id,
        "verdict": finished.verdict.value if finished is not None else "unfinished",
        "mode": started.mode.value,
        "purpose": started.purpose,
        "lock": started.lock.render() if started.lock is not None else None,
        "who": person.id if person is not None else "unsigned",
        "at": started.at,
        "steps": finished.steps if finished is not None else max((item.fact.last_step for item in run.observed), default=0),
        "metrics": dict(finished.metrics) if finished is not None else {},
        "findings": len(started.findings) + sum(len(item.fact.findings) for item in run.observed),
        "command_exit": finished.command_exit if finished is not None else None,
        "entries": [run.started.index, run.last_index],
    }
