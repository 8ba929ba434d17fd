"""`truerun recover RUN`: the clean state without the convicted changes: shown, rerun, written and locked, or undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from truerun.apps.cli.output import escape, options, say, say_json

if TYPE_CHECKING:
    from truerun.apps.project import Project
    from truerun.apps.recovering import Applied, Proposal
    from truerun.attribution.laboratory import Measurement
    from truerun.core.change import Change


@click.command()
@click.argument("run")
@click.option("--apply", "write", is_flag=True, help="Write the clean files, set the rows aside, lock and record it.")
@click.option("--rerun", is_flag=True, help="Train on the clean state and say whether the metric is back.")
@click.option("--undo", is_flag=True, help="Put back what the newest recovery of RUN took out.")
@click.option("--key", type=click.Path(dir_okay=False), help="The SSH key to sign with.")
@options
def command(
    run: str,
    key: str | None,
    output_format: str,
    config_path: str | None,
    *,
    write: bool,
    rerun: bool,
    undo: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Go back from RUN, which was traced: the newest inputs without the convicted changes. Without --apply nothing is written."""
    from truerun.apps.project import open_project
    from truerun.apps.recovering import apply_recovery, propose_recovery, rerun_clean
    from truerun.core.errors import UsageError

    if undo and (write or rerun):
        raise UsageError("--undo goes alone", next_step="undo first, then ask again")
    project = open_project(config_path)
    if undo:
        return _undo(project, run, key, as_json=output_format == "json")
    # The key is looked for before minutes are spent.
    signer = project.signer(key) if write else None
    with propose_recovery(project, run) as proposal:
        measured = rerun_clean(proposal) if rerun else None
        applied = apply_recovery(project, proposal, signer) if signer is not None else None
        if output_format == "json":
            say_json(_as_json(proposal, measured, applied))
        elif not quiet:
            _show(project, proposal, measured, applied, verbose=verbose)
        return 1 if measured is not None and not _is_back(proposal, measured) else 0


def _undo(project: Project, run: str, key: str | None, *, as_json: bool) -> int:
    from truerun.apps.recovering import undo_recovery

    lock = undo_recovery(project, run, project.signer(key))
    if as_json:
        say_json({"schema": 1, "run": run, "undone": True, "lock": lock.digest})
    else:
        say(f"put back; lock {lock.digest.short} proposed", bold=True)
    return 0


def _is_back(proposal: Proposal, measured: Measurement) -> bool:
    """Within tolerance of the reference, as rerun here where that is known."""
    metric = proposal.attribution.metric or {}
    reference = metric.get("reference_rerun") if metric.get("reference_rerun") is not None else metric.get("reference")
    if measured.value is None or reference is None:
        return False
    worse = reference - measured.value if metric.get("goal") == "max" else measured.value - reference
    return bool(worse <= float(metric.get("tolerance") or 0.0))


def _as_json(proposal: Proposal, measured: Measurement | None, applied: Applied | None) -> dict[str, Any]:
    from truerun.apps.cli.changes import changes_as_json

    return {
        "schema": 1,
        "run": proposal.run,
        "removed": changes_as_json(proposal.plan.removed),
        "along": changes_as_json(proposal.plan.along),
        "unreachable": changes_as_json(proposal.plan.unreachable),
        "changes": changes_as_json(proposal.changes),
        "writes": proposal.writes,
        "deletes": proposal.deletes,
        "lock": applied.lock.digest if applied else proposal.clean.lock.digest,
        "applied": applied is not None,
        "proposal": applied.proposal if applied else None,
        "entry": applied.entry.index if applied else None,
        "quarantine": {name: str(path) for name, path in applied.quarantine.items()} if applied else {},
        "decision": applied.decision if applied else None,
        "rerun": {"value": measured.value, "within_tolerance": _is_back(proposal, measured), "reason": measured.reason}
        if measured
        else None,
    }


def _show(project: Project, proposal: Proposal, measured: Measurement | None, applied: Applied | None, *, verbose: bool) -> None:
    from truerun.apps.cli.changes import show_changes

    done = "taken back" if applied else "to be taken back"
    say(f"{done} from {escape(proposal.run)}:", bold=True)
    for change in proposal.plan.removed:
        say(f"  {escape(change.title())}{_who(change)}")
    for change in proposal.plan.along:
        say(f"  {escape(change.title())}{_who(change)}, which builds on one of them")
    for change in proposal.plan.unreachable:
        say(f"  not {escape(change.title())}: files cannot take it back; restore it in the environment", fg="yellow")
    say("what that changes in the inputs:")
    show_changes(proposal.changes, verbose=verbose)
    if measured is not None:
        _show_rerun(proposal, measured)
    if applied is None:
        say(f"next: truerun recover {escape(proposal.run)} --apply writes {', '.join(map(escape, proposal.writes)) or 'nothing'}")
        return
    for name, path in applied.quarantine.items():
        say(f"rows of {escape(name)} set aside in {path}, with a reason each; --undo puts them back")
    say(f"lock {applied.lock.digest.short} proposed; recovery recorded as entry {applied.entry.index}", bold=True)
    _show_decision(project, applied)


def _show_rerun(proposal: Proposal, measured: Measurement) -> None:
    metric = proposal.attribution.metric or {}
    name, reference = metric.get("name"), metric.get("reference_rerun")
    if measured.value is None:
        say(f"the rerun of the clean state ended without {name}: {escape(measured.reason or '?')}", fg="red")
        return
    state = "back within tolerance" if _is_back(proposal, measured) else "not back within tolerance"
    say(f"rerun of the clean state: {name} {measured.value:.4g}, {state} of {reference} (tolerance {metric.get('tolerance')})")


def _show_decision(project: Project, applied: Applied) -> None:
    for need in applied.decision.needs:
        say(f"it needs {escape(need.what)}: {escape(', '.join(need.who)) or 'nobody can give it yet'}")
    if applied.decision.needs:
        say(f"next: one of them runs truerun approve {applied.lock.digest.short}")
    else:
        say(f"next: truerun run -- {escape(project.declaration.project.command)}")


def _who(change: Change) -> str:
    if change.actor is None:
        return ""
    named = change.title().endswith(f" by {change.actor.id}")  # rows are called by who added them
    return ("" if named else f" by {escape(change.actor.id)}") + f" (known from: {change.actor.basis.value})"
